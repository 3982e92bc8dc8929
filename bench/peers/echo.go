// An echo server on Go's net: a goroutine a connection. The runner gives it one thread for Go
// code, GOMAXPROCS=1. Not io.Copy, as net's own example has it: that splices through a pipe, which
// is dearer for short messages.
//
//	go_echo 127.0.0.1:25000
package main

import (
	"log"
	"net"
	"os"
)

func echo(client net.Conn) {
	defer client.Close()
	var data [1024]byte
	for {
		n, err := client.Read(data[:])
		if err != nil {
			return
		}
		if _, err := client.Write(data[:n]); err != nil {
			return
		}
	}
}

func main() {
	address := "127.0.0.1:25000"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go echo(client)
	}
}
