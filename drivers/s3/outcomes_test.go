package s3

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// TestConflict checks writes that the store answers with 409, as S3 does while
// another write of the key is in progress.
func TestConflict(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	b := openBucket(t, cfg)
	conflict := refuseAll("", http.StatusConflict, "ConditionalRequestConflict")

	proxy.intercept(first("PutObject", conflict))
	o := create(t, b, "first")
	proxy.intercept(first("PutObject", conflict))
	o, err := b.Replace(t.Context(), "k", o.Tag, textBody("second"))
	if err != nil {
		t.Fatalf("Replace after one conflict = %v", err)
	}
	wantObject(t, b, "k", "second")

	// After a 409 the next refusal is caused by another client's write.
	proxy.intercept(first("PutObject", conflict))
	_, err = b.Create(t.Context(), "k", textBody("third"))
	wantOnly(t, err, drivers.ErrExists, "Create of a taken key after one conflict")
	proxy.intercept(first("DeleteObject", conflict))
	if err := b.DeleteIf(t.Context(), "k", o.Tag); err != nil {
		t.Errorf("DeleteIf after one conflict = %v", err)
	}

	proxy.intercept(first("PutObject", refuseAll("", http.StatusConflict, "ExistingObjectIsDirectory")))
	if _, err := b.Create(t.Context(), "dir/k", textBody("x")); err != nil {
		t.Errorf("Create after its directory was removed once = %v", err)
	}

	proxy.intercept(refuseAll("PutObject", http.StatusConflict, "ConditionalRequestConflict"))
	_, err = b.Create(t.Context(), "l", textBody("x"))
	wantBusy(t, err, "Create when every attempt conflicts")
	if got, want := len(proxy.operations()), 1+defaultRetries; got != want {
		t.Errorf("Create made %d requests, want %d", got, want)
	}
}

// TestCompleteConflict checks a Complete that the store answers with 409, as
// the status or in a 200. The result depends on the state of the upload.
func TestCompleteConflict(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusConflict, http.StatusOK} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			proxy, cfg := newProxy(t)
			testCompleteConflict(t, proxy, openBucket(t, cfg), status)
		})
	}
}

func testCompleteConflict(t *testing.T, proxy *proxyServer, b *bucket, status int) {
	conflicts := refuseAll("CompleteMultipartUpload", status, "ConditionalRequestConflict")
	start := func(key string) (drivers.Upload, drivers.Part) {
		t.Helper()
		proxy.intercept(nil)
		return startUpload(t, b, key)
	}
	wantComplete := func(u drivers.Upload, p drivers.Part, when string) {
		t.Helper()
		o, err := complete(t, b, u, p)
		if err != nil || o.Key != u.Key || o.Size != p.Size {
			t.Errorf("Complete(%q) %s = %+v, %v, want an object of %d bytes", u.Key, when, o, err, p.Size)
		}
	}

	u, part := start("data/once")
	proxy.intercept(first("CompleteMultipartUpload", conflicts))
	wantComplete(u, part, "after one conflict")
	wantObject(t, b, u.Key, "part")

	u, part = start("data/created")
	proxy.intercept(first("CompleteMultipartUpload", func(w http.ResponseWriter, r *http.Request) bool {
		proxy.backend.ServeHTTP(httptest.NewRecorder(), r)
		proxy.intercept(conflicts)
		return conflicts(w, r)
	}))
	wantComplete(u, part, "in conflict with a Complete that created the object")

	u, part = start("data/exists")
	wantComplete(u, part, "before the refusal")
	proxy.intercept(refuseAll("CompleteMultipartUpload", status, "PreconditionFailed"))
	wantComplete(u, part, "when the condition fails because the object exists")

	u, part = start("data/kept")
	proxy.intercept(conflicts)
	_, err := complete(t, b, u, part)
	wantBusy(t, err, "Complete when every attempt conflicts")
	proxy.intercept(nil)
	wantComplete(u, part, "after the conflict")

	u, part = start("data/gone")
	if err := b.Abort(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	proxy.intercept(first("CompleteMultipartUpload", conflicts))
	_, err = complete(t, b, u, part)
	wantOnly(t, err, drivers.ErrNotFound, "Complete of an upload that is gone, after one conflict")
}

// TestLostAnswer drops the response to a write that took effect. On the next
// attempt the condition fails because of the write itself, so the outcome is
// unknown.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxyOf(t, newBucketOf(t, emulator.VersityGW(t)))
	b := openBucket(t, cfg)
	tag := func() string {
		t.Helper()
		o, err := b.Stat(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		return o.Tag
	}

	proxy.intercept(first("PutObject", proxy.dropResponse))
	_, err := b.Create(t.Context(), "k", textBody("first"))
	wantNoClaim(t, err, "Create whose response was lost")
	wantObject(t, b, "k", "first")

	before := tag()
	proxy.intercept(first("PutObject", proxy.dropResponse))
	_, err = b.Replace(t.Context(), "k", before, textBody("second"))
	wantNoClaim(t, err, "Replace whose response was lost")
	wantObject(t, b, "k", "second")

	before = tag()
	proxy.intercept(first("DeleteObject", proxy.dropResponse))
	if err := b.DeleteIf(t.Context(), "k", before); err != nil {
		t.Errorf("DeleteIf whose response was lost = %v", err)
	}

	u, err := b.StartUpload(t.Context(), "data/u")
	if err != nil {
		t.Fatal(err)
	}
	proxy.intercept(first("UploadPart", proxy.dropResponse))
	part, err := b.PutPart(t.Context(), u, 1, textBody("part"))
	if err != nil {
		t.Fatalf("PutPart whose response was lost = %v", err)
	}
	proxy.intercept(first("CompleteMultipartUpload", proxy.dropResponse))
	o, err := complete(t, b, u, part)
	if err != nil {
		t.Fatalf("Complete whose response was lost = %v", err)
	}
	if existing, err := b.Stat(t.Context(), "data/u"); err != nil || existing.Tag != o.Tag || existing.Size != o.Size {
		t.Errorf("Complete = %+v, and then Stat = %+v, %v, want the same object", o, existing, err)
	}
	wantObject(t, b, "data/u", "part")
}

// TestCompleteError200 checks a Complete that the store answers with 200 and an
// error in the body.
func TestCompleteError200(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	b := openBucket(t, cfg)
	u, part := startUpload(t, b, "data/u")
	failure := refuseAll("CompleteMultipartUpload", http.StatusOK, "InternalError")
	proxy.intercept(failure)
	_, err := complete(t, b, u, part)
	wantBusy(t, err, "Complete with InternalError in a 200")
	_, err = b.Stat(t.Context(), "data/u")
	wantOnly(t, err, drivers.ErrNotFound, "Stat after a failed Complete")
	proxy.intercept(first("CompleteMultipartUpload", failure))
	if _, err := complete(t, b, u, part); err != nil {
		t.Errorf("Complete after one InternalError in a 200 = %v", err)
	}
	wantObject(t, b, "data/u", "part")
}

// TestDeleteOvertaken checks a delete that the store answers with 412. It
// succeeds if the key is absent, and returns ErrChanged if the object exists.
func TestDeleteOvertaken(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	b := openBucket(t, cfg)
	proxy.intercept(refuseAll("DeleteObject", http.StatusPreconditionFailed, "PreconditionFailed"))
	if err := b.DeleteIf(t.Context(), "k", "tag"); err != nil {
		t.Errorf("DeleteIf of an absent key = %v, want nil", err)
	}
	o := create(t, b, "text")
	if err := b.DeleteIf(t.Context(), "k", o.Tag); !errors.Is(err, drivers.ErrChanged) {
		t.Errorf("DeleteIf of an object = %v, want %v", err, drivers.ErrChanged)
	}
}

// TestPartRefusedEarly has the store answer before it has read a part, and
// close the connection, so that the response is lost.
func TestPartRefusedEarly(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	b := openBucket(t, cfg)
	u, err := b.StartUpload(t.Context(), "data/u")
	if err != nil {
		t.Fatal(err)
	}
	proxy.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		return operation(r) == "UploadPart" && hangUp(w, r)
	})
	_, err = b.PutPart(t.Context(), u, 1, textBody("part"))
	wantBusy(t, err, "PutPart on a connection that breaks")
	if err := b.Abort(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	_, err = b.PutPart(t.Context(), u, 1, textBody("part"))
	wantOnly(t, err, drivers.ErrNotFound, "PutPart of an aborted upload on a connection that breaks")
}
