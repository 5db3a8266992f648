// SPDX-License-Identifier: Apache-2.0

// net/http, server and client: calls made by the handler, by an errgroup, by a goroutine; by workers that were
// there before, or that a request was the first to need; after the answer; with the request's context, by whichever
// goroutine; and through httputil.ReverseProxy. MODE says which. CERT and KEY: over TLS.
package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
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
	ctx  context.Context
	url  string
	done chan struct{}
}

// What requests leave with whoever is under way to the same: theirs, each with its own context.
var flight struct {
	sync.Mutex
	under   bool
	waiting []func()
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

func ask(c *http.Client, ctx context.Context, url string) error {
	rq, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return err
	}
	r, err := c.Do(rq)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	_, err = io.Copy(io.Discard, r.Body)
	return err
}

func call(url string) error {
	return carry(context.Background(), url)
}

func carry(ctx context.Context, url string) error {
	err := ask(hurried, ctx, url)
	if e, ok := err.(net.Error); ok && e.Timeout() {
		err = ask(client, ctx, url)
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
				carry(j.ctx, j.url)
				close(j.done)
			}
		}()
	}
}

// By a worker; by the first of those that want the same, and by it for the others: in its own goroutine, and in new ones.
func carried(ctx context.Context, base string) {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, &flight, 1), time.Minute)
	defer cancel()
	done := make(chan struct{})
	jobs <- job{ctx, base + "a", done}
	<-done

	done = make(chan struct{})
	flight.Lock()
	flight.waiting = append(flight.waiting, func() {
		carry(ctx, base+"b")
		close(done)
	})
	first := !flight.under
	flight.under = true
	flight.Unlock()
	if first {
		carry(ctx, base+"c")
		flight.Lock()
		waiting := flight.waiting
		flight.waiting, flight.under = nil, false
		flight.Unlock()
		for i, f := range waiting {
			if i%2 == 0 {
				f()
			} else {
				go f()
			}
		}
	}
	<-done
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
		jobs <- job{context.Background(), base + "e", done}
		<-done
	case "carried":
		carried(r.Context(), base)
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
	if mode := os.Getenv("MODE"); mode == "workers" || mode == "carried" {
		workers()
	}
	if os.Getenv("MODE") == "proxy" {
		h = proxy()
	}
	addr := "127.0.0.1:" + os.Getenv("PORT")
	if cert := os.Getenv("CERT"); cert != "" {
		panic(http.ListenAndServeTLS(addr, cert, os.Getenv("KEY"), h))
	}
	panic(http.ListenAndServe(addr, h))
}
