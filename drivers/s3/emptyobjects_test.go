package s3

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/berthhq/berth/drivers"
)

// TestEmptyStays deletes in a store that has no delete by tag, and then gets it.
// The empty objects must stay absent.
func TestEmptyStays(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	proxy.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if operation(r) != "DeleteObject" || r.Header.Get("If-Match") == "" {
			return false
		}
		w.WriteHeader(http.StatusNoContent)
		return true
	})
	before := openBucket(t, cfg)
	o := create(t, before, "text")
	if err := before.DeleteIf(t.Context(), "k", o.Tag); err != nil {
		t.Fatal(err)
	}
	proxy.intercept(nil)
	after := openBucket(t, cfg)
	if want := (capabilities{conditionalDelete: true, emptyIsAbsent: true, checksums: checksumWhole}); after.capabilities != want {
		t.Errorf("capabilities = %+v, want %+v", after.capabilities, want)
	}
	for o, err := range after.List(t.Context(), "", "", 0) {
		t.Errorf("List returns %+v, %v, want nothing", o, err)
	}
	o = create(t, after, "again")
	wantObject(t, after, "k", "again")
	if err := after.DeleteIf(t.Context(), "k", o.Tag); err != nil {
		t.Errorf("DeleteIf = %v", err)
	}
}

// TestVersityGW checks responses that versitygw sends in races.
func TestVersityGW(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	proxy.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Server", "VERSITYGW") // in all responses
		return operation(r) == "DeleteObject" && r.Header.Get("If-Match") != "" && refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
	})
	b := openBucket(t, cfg)
	if want := (capabilities{emptyIsAbsent: true, versityGW: true, checksums: checksumWhole}); b.capabilities != want {
		t.Errorf("capabilities = %+v, want %+v", b.capabilities, want)
	}

	o := create(t, b, "text")
	proxy.intercept(first("HeadObject", func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("ETag", `"`+o.Tag+`"`) // with the size of the empty object before it
		return true
	}))
	_, err := b.Create(t.Context(), "k", textBody("other"))
	wantOnly(t, err, drivers.ErrExists, "Create after a HEAD with the size of an empty object and another object's tag")
	wantObject(t, b, "k", "text")

	proxy.intercept(nil)
	u, part := startUpload(t, b, "data/u")
	o, err = complete(t, b, u, part)
	if err == nil {
		err = b.DeleteIf(t.Context(), u.Key, o.Tag)
	}
	if err != nil {
		t.Fatal(err)
	}
	proxy.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if operation(r) != "CompleteMultipartUpload" {
			return false
		}
		fmt.Fprint(w, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")
		return true
	})
	_, err = complete(t, b, u, part)
	wantOnly(t, err, drivers.ErrNotFound, "Complete of an upload whose object was deleted")
	u.Key = "data/never-created"
	_, err = complete(t, b, u, part)
	wantBusy(t, err, "Complete that succeeds without an object")
}
