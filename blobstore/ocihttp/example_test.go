package ocihttp_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/ocihttp"
	"github.com/berthhq/berth/drivers/memory"
)

// A program serves the registry API beside its own paths. A client pushes a blob
// and pulls it again.
func Example() {
	if err := pushAndPull(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// POST: 201 Created
	// GET: 200 OK, "hello"
}

func pushAndPull(ctx context.Context) error {
	bucket, err := memory.Open(ctx, memory.Config{})
	if err != nil {
		return err
	}
	defer bucket.Close()
	store, err := blobstore.Open(ctx, bucket, blobstore.Config{})
	if err != nil {
		return err
	}
	api, err := ocihttp.New(store, ocihttp.Config{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/v2/", ocihttp.AnswerFirst(ctx, api, ocihttp.Unread{}))
	mux.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "another path") })
	server := httptest.NewServer(mux)
	defer server.Close()

	content := []byte("hello")
	blobs := server.URL + "/v2/library/example/blobs/"
	dgst := digest.FromBytes(content).String()
	resp, err := server.Client().Post(blobs+"uploads/?digest="+dgst, "application/octet-stream", bytes.NewReader(content))
	if err != nil {
		return err
	}
	resp.Body.Close()
	fmt.Println("POST:", resp.Status)

	resp, err = server.Client().Get(blobs + dgst)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	fmt.Printf("GET: %s, %q\n", resp.Status, got)
	return nil
}
