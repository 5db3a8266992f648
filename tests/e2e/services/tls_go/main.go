// SPDX-License-Identifier: Apache-2.0

// An HTTPS server and, where NEXT is set, its client: crypto/tls. WRAP: over connections of types of its own. THROUGH: no
// server, but what passes the bytes of other's sessions on to that address. STRESS: stacks grow in the middle of calls, and
// goroutines are made to give way all the time.
package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// What counts, throttles or logs is built like this.
type wrapped struct {
	name string
	net.Conn
}

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &wrapped{"accepted", c}, nil
}

func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &wrapped{"dialled", c}, nil
}

// Calls f on a stack that is n frames deeper.
func deeper(n int, f func()) {
	var frame [256]byte
	if n > 0 {
		deeper(n-1, f)
	} else {
		f()
	}
	runtime.KeepAlive(frame)
}

func hop(w http.ResponseWriter, r *http.Request) {
	if os.Getenv("STRESS") == "" {
		answer(w, r)
		return
	}
	// In a goroutine of its own: with a stack that is as small as they come.
	done := make(chan bool)
	go func() {
		deeper(int(time.Now().UnixNano()/1000%24), func() { answer(w, r) })
		close(done)
	}()
	<-done
}

func answer(w http.ResponseWriter, r *http.Request) {
	next := os.Getenv("NEXT")
	if next != "" {
		path := strings.Split(r.URL.Path, "/")
		leg, _ := strconv.Atoi(path[3][1:])
		got, err := http.Get(next + "/" + path[1] + "/" + path[2] + "/n" + strconv.Itoa(leg+1))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		io.Copy(io.Discard, got.Body)
		got.Body.Close()
	}
	// Answers of several records.
	io.WriteString(w, strings.Repeat("o", 40000))
}

func through(l net.Listener, to string) {
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			d, err := net.Dial("tcp", to)
			if err != nil {
				panic(err)
			}
			// Hidden from io.Copy(), which would splice.
			go io.Copy(struct{ io.Writer }{d}, struct{ io.Reader }{c})
			io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{d})
			c.Close()
			d.Close()
		}()
	}
}

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		panic(err)
	}
	if to := os.Getenv("THROUGH"); to != "" {
		go through(l, to)
		l, err = net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
	}
	if os.Getenv("STRESS") != "" {
		go func() {
			for {
				runtime.GC()
			}
		}()
	}
	if os.Getenv("WRAP") != "" {
		l = listener{l}
		http.DefaultTransport.(*http.Transport).DialContext = dial
	}
	server := &http.Server{Handler: http.HandlerFunc(hop)}
	if v, err := strconv.ParseUint(os.Getenv("MAX_VERSION"), 0, 16); err == nil {
		server.TLSConfig = &tls.Config{MaxVersion: uint16(v)}
	}
	panic(server.ServeTLS(l, os.Getenv("CERT"), os.Getenv("KEY")))
}
