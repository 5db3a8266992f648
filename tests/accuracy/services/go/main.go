// SPDX-License-Identifier: Apache-2.0

// net/http, server and client: calls made by the handler, by an errgroup, by a goroutine; by workers that were
// there before, or that a request was the first to need; after the answer; and through httputil.ReverseProxy. MODE says which.
package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

var (
	leaf   = os.Getenv("LEAF")
	client = &http.Client{Transport: transport()}
	jobs   = make(chan job)

	hurried = &http.Client{Transport: client.Transport, Timeout: timeout()}

	requests int64
	ready    = make(chan struct{})
)

// The request that starts the workers, of which the others have the use while it stays open.
const lazyAt = 100

type job struct {
	url  string
	done chan struct{}
}

// POOL: so many connections at the most; whoever wants one waits.
func transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 1000
	t.DisableKeepAlives = os.Getenv("CLOSE") != ""
	if n, err := strconv.Atoi(os.Getenv("POOL")); err == nil {
		t.MaxConnsPerHost = n
	}
	return t
}

func ask(c *http.Client, url string) error {
	r, err := c.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	_, err = io.Copy(io.Discard, r.Body)
	return err
}

func call(url string) error {
	err := ask(hurried, url)
	if e, ok := err.(net.Error); ok && e.Timeout() {
		err = ask(client, url)
	}
	return err
}

// TIMEOUT: seconds that a call may take; then it is made again, without.
func timeout() time.Duration {
	s, err := strconv.ParseFloat(os.Getenv("TIMEOUT"), 64)
	if err != nil {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}

func workers() {
	for i := 0; i < 16; i++ {
		go func() {
			for j := range jobs {
				call(j.url)
				close(j.done)
			}
		}()
	}
}

func hop(w http.ResponseWriter, r *http.Request) {
	base := leaf + strings.TrimSuffix(r.URL.Path, "/n0") + "/n1"
	switch os.Getenv("MODE") {
	case "lazy":
		n := atomic.AddInt64(&requests, 1)
		if n < lazyAt {
			break
		}
		if n == lazyAt {
			workers()
			defer time.Sleep(500 * time.Millisecond)
			close(ready)
		}
		<-ready
		fallthrough
	case "workers":
		done := make(chan struct{})
		jobs <- job{base + "e", done}
		<-done
	case "late":
		go func() {
			time.Sleep(20 * time.Millisecond)
			call(base + "f")
		}()
		fallthrough
	default:
		call(base + "a")
		var g errgroup.Group
		g.Go(func() error { return call(base + "b") })
		g.Go(func() error { return call(base + "c") })
		g.Wait()
		done := make(chan error)
		go func() { done <- call(base + "d") }()
		<-done
	}
	io.WriteString(w, "ok")
}

func proxy() http.Handler {
	to, err := url.Parse(leaf)
	if err != nil {
		panic(err)
	}
	p := httputil.NewSingleHostReverseProxy(to)
	p.Transport = client.Transport
	direct := p.Director
	p.Director = func(r *http.Request) {
		direct(r)
		r.URL.Path = strings.TrimSuffix(r.URL.Path, "/n0") + "/n1a"
	}
	return p
}

func main() {
	var h http.Handler = http.HandlerFunc(hop)
	if os.Getenv("MODE") == "workers" {
		workers()
	}
	if os.Getenv("MODE") == "proxy" {
		h = proxy()
	}
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), h))
}
