// Servers for tests: a registry of OCI artifacts, and an S3 server, each over TLS on loopback.
//
//	servers registry CERT KEY HTPASSWD        distribution's registry, in memory, with basic authentication
//	servers s3 CERT KEY ACCESS SECRET BUCKET  gofakes3, in memory; requests have to be signed with version 4
//
// The first line on standard output is the port. Ends when standard input does.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/rclone/gofakes3/signature"
	"github.com/sirupsen/logrus"
)

func main() {
	logrus.SetOutput(io.Discard)
	var handler http.Handler
	switch os.Args[1] {
	case "registry":
		config := &configuration.Configuration{Version: configuration.CurrentVersion}
		config.Storage = configuration.Storage{"inmemory": configuration.Parameters{}}
		config.Auth = configuration.Auth{"htpasswd": configuration.Parameters{"realm": "test", "path": os.Args[4]}}
		config.HTTP.Secret = "of-a-test"
		config.Catalog.MaxEntries = 1000
		config.Log.AccessLog.Disabled = true
		config.Log.Level = "panic"
		handler = handlers.NewApp(context.Background(), config)
	case "s3":
		backend := s3mem.New()
		check(backend.CreateBucket(os.Args[6]))
		signature.ReloadKeys(map[string]string{os.Args[4]: os.Args[5]})
		handler = signed(gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	}
	pair, err := tls.LoadX509KeyPair(os.Args[2], os.Args[3])
	check(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	server := &http.Server{Handler: handler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}}
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); os.Exit(0) }()
	check(server.ServeTLS(listener, "", ""))
}

// signed lets through what was signed with a known key.
func signed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if code := signature.V4SignVerify(request); code != signature.ErrNone {
			refused := signature.GetAPIError(code)
			writer.Header().Set("Content-Type", "application/xml")
			writer.WriteHeader(refused.HTTPStatusCode)
			_, _ = writer.Write(signature.EncodeAPIErrorToResponse(refused))
			return
		}
		next.ServeHTTP(writer, request)
	})
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
