// Load on etcd by its own client for Go: main PORTS put|get CONNECTIONS SECONDS BYTES, one request in flight for each connection, a client of
// its own each; gets are linearizable, which is what etcd does unless it is asked otherwise. Prints a line of JSON.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
)

// As SPREAD_KEYS of load.ts.
const keys = 1000

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	ports := strings.Split(os.Args[1], ",")
	put := os.Args[2] == "put"
	connections, seconds := number(os.Args[3]), number(os.Args[4])
	value := strings.Repeat("v", number(os.Args[5]))
	clients := make([]*clientv3.Client, connections)
	for i := range clients {
		client, err := clientv3.New(clientv3.Config{
			Endpoints:   []string{"127.0.0.1:" + ports[i%len(ports)]},
			DialTimeout: 10 * time.Second,
		})
		if err != nil {
			panic(err)
		}
		clients[i] = client
	}
	var done, failures int64
	var all sync.WaitGroup
	begun := time.Now()
	end := begun.Add(time.Duration(seconds) * time.Second)
	for i, client := range clients {
		all.Add(1)
		go func(turn int, client *clientv3.Client) {
			defer all.Done()
			for ; time.Now().Before(end); turn++ {
				key := fmt.Sprintf("bench-%010d", turn%keys)
				var err error
				if put {
					_, err = client.Put(context.Background(), key, value)
				} else {
					_, err = client.Get(context.Background(), key)
				}
				if err == nil {
					atomic.AddInt64(&done, 1)
				} else {
					atomic.AddInt64(&failures, 1)
				}
			}
		}(i*keys/connections, client)
	}
	all.Wait()
	fmt.Printf("{\"perSecond\":%f,\"failures\":%d}\n", float64(done)/time.Since(begun).Seconds(), failures)
}
