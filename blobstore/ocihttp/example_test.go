package ocihttp_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/ocihttp"
	"github.com/berthhq/berth/drivers/memory"
)

// newRegistry returns a registry in memory beside another path of a program.
func newRegistry(ctx context.Context) (http.Handler, error) {
	bucket, err := memory.Open(ctx, memory.Config{}) // or a directory, or a bucket of a cloud
	if err != nil {
		return nil, err
	}
	store, err := blobstore.Open(ctx, bucket, blobstore.Config{})
	if err != nil {
		return nil, err
	}
	api, err := ocihttp.New(store, ocihttp.Config{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/v2/", ocihttp.RespondFirst(ctx, api, ocihttp.Unread{}))
	mux.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "another path") })
	return mux, nil
}

// A program serves the registry API beside its own paths. A client pushes an image, and
// pulls it again.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	registry, err := newRegistry(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(registry)
	defer server.Close()

	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	config := `{"architecture":"amd64","os":"linux"}`
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[]}`,
		mediaType, digest.FromString(config), len(config))
	image := server.URL + "/v2/library/example"
	send(ctx, "POST", image+"/blobs/uploads/?digest="+digest.FromString(config).String(), "application/octet-stream", config)
	send(ctx, "PUT", image+"/manifests/latest", mediaType, manifest)
	fmt.Println(send(ctx, "GET", image+"/tags/list", "", ""))
	fmt.Println(send(ctx, "GET", image+"/manifests/latest", "", "") == manifest)
	// Output:
	// POST: 201 Created
	// PUT: 201 Created
	// GET: 200 OK
	// {"name":"library/example","tags":["latest"]}
	// GET: 200 OK
	// true
}

// send sends a request, prints the status of the response, and returns its body.
func send(ctx context.Context, method, url, mediaType, body string) string {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	fmt.Printf("%s: %s\n", method, resp.Status)
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(got)
}
