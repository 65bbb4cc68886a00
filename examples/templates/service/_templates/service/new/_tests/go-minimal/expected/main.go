// Command ledger is an HTTP server with health, metrics, and a place for your own routes.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"sort"
	"strings"
	"sync"
)

var (
	mutex    sync.Mutex
	requests = map[string]int{}
)

func answer(path string) (int, string) {
	mutex.Lock()
	defer mutex.Unlock()
	requests[path]++
	switch path {
	case "/healthz":
		return http.StatusOK, "ok\n"
	case "/metrics":
		lines := []string{}
		for key, value := range requests {
			lines = append(lines, fmt.Sprintf("ledger_requests_total{path=%q} %d\n", key, value))
		}
		sort.Strings(lines)
		return http.StatusOK, strings.Join(lines, "")
	}
	return http.StatusNotFound, "not found\n"
}

func main() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	http.HandleFunc("/", func(writer http.ResponseWriter, request *http.Request) {
		status, text := answer(request.URL.Path)
		writer.WriteHeader(status)
		fmt.Fprint(writer, text)
	})
	log.Fatal(http.ListenAndServe(":"+port, nil))
}
