// SPDX-License-Identifier: Apache-2.0

// The smallest net/http service that calls another one: once itself, once in a goroutine.
package main

import (
	"io"
	"net/http"
	"os"
)

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}

func call() {
	r, err := client.Get(os.Getenv("LEAF") + "/leaf")
	if err != nil {
		return
	}
	io.Copy(io.Discard, r.Body)
	r.Body.Close()
}

func main() {
	http.HandleFunc("/f", func(w http.ResponseWriter, r *http.Request) {
		done := make(chan struct{})
		call()
		go func() {
			call()
			close(done)
		}()
		<-done
		io.WriteString(w, "ok")
	})
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
