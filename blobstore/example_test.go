package blobstore_test

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
)

// Store a blob in one repository and read it back.
func Example() {
	ctx := context.Background()
	bucket, err := memory.Open(ctx, memory.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer bucket.Close()
	store, err := blobstore.Open(ctx, bucket, blobstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	name, err := reference.WithName("team/app")
	if err != nil {
		fmt.Println(err)
		return
	}
	blobs := store.Repository(name)

	desc, err := blobs.Put(ctx, "text/plain", []byte("hello"))
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := blobs.Get(ctx, desc.Digest)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(desc.Digest)
	fmt.Printf("%d bytes of %s: %s\n", desc.Size, desc.MediaType, p)

	// Output:
	// sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
	// 5 bytes of text/plain: hello
}

// countingBucket is a bucket that counts how often objects are created. It gets
// all other methods from the bucket that it embeds. A bucket of your own that
// embeds no other driver must pass the tests of package drivertest.
type countingBucket struct {
	drivers.Bucket
	created atomic.Int64
}

// Create counts the call and passes it on.
func (b *countingBucket) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	b.created.Add(1)
	return b.Bucket.Create(ctx, key, body)
}

// Open a Store in a bucket of your own: a small blob costs two objects, the record
// that holds its bytes and the link.
func ExampleOpen_bucketOfYourOwn() {
	ctx := context.Background()
	inner, err := memory.Open(ctx, memory.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	bucket := &countingBucket{Bucket: inner}
	defer bucket.Close()
	store, err := blobstore.Open(ctx, bucket, blobstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	name, err := reference.WithName("team/app")
	if err != nil {
		fmt.Println(err)
		return
	}

	before := bucket.created.Load()
	if _, err := store.Repository(name).Put(ctx, "", []byte("hello")); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("objects created:", bucket.created.Load()-before)

	// Output:
	// objects created: 2
}

// Start an upload in one process and finish it in another. The two share nothing
// but the bucket.
func ExampleRepository_Resume() {
	ctx := context.Background()
	bucket, err := memory.Open(ctx, memory.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer bucket.Close()
	name, err := reference.WithName("team/app")
	if err != nil {
		fmt.Println(err)
		return
	}

	first, err := blobstore.Open(ctx, bucket, blobstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	w, err := first.Repository(name).Create(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(w, "hello, ")
	if err := w.Close(); err != nil {
		fmt.Println(err)
		return
	}

	second, err := blobstore.Open(ctx, bucket, blobstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	w, err = second.Repository(name).Resume(ctx, w.ID())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(w, "world")
	desc, err := w.Commit(ctx, blobstore.Descriptor{Digest: digest.FromString("hello, world")})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(desc.Size, desc.Digest)

	// Output:
	// 12 sha256:09ca7e4eaa6e8ae9c7d261167129184883644d07dfba7cbfbc4c8a2e08360d5b
}
