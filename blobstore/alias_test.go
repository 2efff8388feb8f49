package blobstore

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/memory"
)

// TestAliasIsRenewed uses an alias of a certain age. If the collector may soon find it
// old, the request replaces it, and so changes its tag, before it creates the link.
func TestAliasIsRenewed(t *testing.T) {
	p := []byte("known by two digests")
	sha512 := digest.SHA512.FromBytes(p)
	for name, use := range map[string]func(ctx context.Context, from, to *Repository) error{
		"push": func(ctx context.Context, _, to *Repository) error {
			u, err := to.StartUpload("")
			if err != nil {
				return err
			}
			_, err = to.FinishUpload(ctx, u.ID, u.State, Body{bytes.NewReader(p), int64(len(p)), -1, nil}, Descriptor{Digest: sha512})
			return err
		},
		"mount": func(ctx context.Context, from, to *Repository) error {
			name, err := reference.WithName(from.name)
			if err == nil {
				_, err = to.Mount(ctx, name, sha512)
			}
			return err
		},
	} {
		for age, renewed := range map[time.Duration]bool{11 * time.Hour: false, 13 * time.Hour: true} {
			t.Run(name+" after "+age.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b, err := memory.Open(t.Context(), memory.Config{})
					if err != nil {
						t.Fatal(err)
					}
					s := openStore(t, b, Config{Grace: 24 * time.Hour})
					from, to := repository(t, s, "from"), repository(t, s, "to")
					u, err := from.StartUpload("")
					if err != nil {
						t.Fatal(err)
					}
					if _, err := from.FinishUpload(t.Context(), u.ID, u.State, Body{bytes.NewReader(p), -1, -1, nil}, Descriptor{Digest: sha512}); err != nil {
						t.Fatal(err)
					}
					before, err := s.catalog.ReadAlias(t.Context(), sha512)
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(age)
					if err := use(t.Context(), from, to); err != nil {
						t.Fatal(err)
					}
					after, err := s.catalog.ReadAlias(t.Context(), sha512)
					if err != nil || (after.Object.Tag != before.Object.Tag) != renewed {
						t.Errorf("alias %v old: its tag was %s and is %s, %v, want another: %v", age, before.Object.Tag, after.Object.Tag, err, renewed)
					}
					if got, err := to.Get(t.Context(), sha512); err != nil || !bytes.Equal(got, p) {
						t.Errorf("Get(%s) = %q, %v", sha512, got, err)
					}
				})
			})
		}
	}
}
