package storetest

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
)

// The account of an object store that tests use, and the bucket there.
const (
	AccessKey = "the-key-id"
	SecretKey = "the-secret-key"
	Bucket    = "snapshots"
)

// Engine leads to the object store at the HOST:PORT that MCP_SANDBOX_TEST_S3 names, nil
// where it names none and a test brings its own. "make s3-engine" starts one.
func Engine() http.Handler {
	addr := os.Getenv("MCP_SANDBOX_TEST_S3")
	if addr == "" {
		return nil
	}
	return &httputil.ReverseProxy{
		Transport: &http.Transport{DisableKeepAlives: true}, // leaves no goroutine
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addr})
			r.Out.Host = r.In.Host // it is signed
		},
	}
}
