// SPDX-License-Identifier: Apache-2.0

// A server with C code that has 56 bytes of thread data.
package main

/*
static __thread long counters[7];
static long count(void) { return counters[3]++; }
*/
import "C"

import (
	"net/http"
	"os"
)

func main() {
	C.count()
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
