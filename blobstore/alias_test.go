package blobstore

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/drivers/memory"
)

// TestCondemnedAlias uses an alias that the collector has condemned, or not. The
// request takes the mark off, and so changes the tag, before it creates the link.
func TestCondemnedAlias(t *testing.T) {
	p := []byte("known by two digests")
	sha512 := digest.SHA512.FromBytes(p)
	for name, use := range map[string]func(ctx context.Context, from, to *Repository) error{
		"push": func(ctx context.Context, _, to *Repository) error { return pushBySHA512(ctx, to, p) },
		"mount": func(ctx context.Context, from, to *Repository) error {
			name, err := reference.WithName(from.name)
			if err == nil {
				_, err = to.Mount(ctx, name, sha512)
			}
			return err
		},
	} {
		for _, condemned := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, condemned %t", name, condemned), func(t *testing.T) {
				b, err := memory.Open(t.Context(), memory.Config{})
				if err != nil {
					t.Fatal(err)
				}
				s := openStore(t, b, Config{})
				from, to := repository(t, s, "from"), repository(t, s, "to")
				if err := pushBySHA512(t.Context(), from, p); err != nil {
					t.Fatal(err)
				}
				before, err := s.catalog.ReadAlias(t.Context(), sha512)
				if err == nil && condemned {
					before.Value.Condemned = true
					before, err = envelope.Replace(t.Context(), b, before.Object.Key, before.Object.Tag, before.Value, drivers.Body{})
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := use(t.Context(), from, to); err != nil {
					t.Fatal(err)
				}
				after, err := s.catalog.ReadAlias(t.Context(), sha512)
				if err != nil || after.Value.Condemned || (after.Object.Tag != before.Object.Tag) != condemned {
					t.Errorf("the alias was condemned: %t, and is condemned: %t, with the tags %s and %s, %v, want another tag: %t",
						condemned, after.Value.Condemned, before.Object.Tag, after.Object.Tag, err, condemned)
				}
				if got, err := to.Get(t.Context(), sha512); err != nil || !bytes.Equal(got, p) {
					t.Errorf("Get(%s) = %q, %v", sha512, got, err)
				}
			})
		}
	}
}

func pushBySHA512(ctx context.Context, r *Repository, p []byte) error {
	u, err := r.StartUpload("")
	if err != nil {
		return err
	}
	body := Body{bytes.NewReader(p), int64(len(p)), -1, nil}
	_, err = r.FinishUpload(ctx, u.ID, u.State, body, Descriptor{Digest: digest.SHA512.FromBytes(p)})
	return err
}
