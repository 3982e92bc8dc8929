// A web server on Go's net/http which greets everybody. The runner gives it one thread for Go code,
// GOMAXPROCS=1.
//
//	go_http 127.0.0.1:8080
package main

import (
	"io"
	"log"
	"net/http"
	"os"
)

func greet(response http.ResponseWriter, request *http.Request) {
	response.Header().Set("Content-Type", "text/plain")
	io.WriteString(response, "Hello, world!\n")
}

func main() {
	address := "127.0.0.1:8080"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	http.HandleFunc("/", greet)
	log.Fatal(http.ListenAndServe(address, nil))
}
