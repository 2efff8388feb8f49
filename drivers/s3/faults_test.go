package s3

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/berthhq/berth/drivers"
)

// callsOf returns one call of each method that sends a request. The object k
// has this tag, and the upload has one part.
func callsOf(t *testing.T, b drivers.Bucket, tag string, u drivers.Upload, part drivers.Part) map[string]func() error {
	ctx := t.Context()
	return map[string]func() error{
		"Create":      func() error { _, err := b.Create(ctx, "new", textBody("x")); return err },
		"Replace":     func() error { _, err := b.Replace(ctx, "k", tag, textBody("x")); return err },
		"DeleteIf":    func() error { return b.DeleteIf(ctx, "k", tag) },
		"Delete":      func() error { return b.Delete(ctx, "k") },
		"Delete of 2": func() error { return b.Delete(ctx, "k", "l") },
		"Open":        func() error { _, _, err := b.Open(ctx, "k", 0, -1); return err },
		"Stat":        func() error { _, err := b.Stat(ctx, "k"); return err },
		"List":        func() error { return firstError(b.List(ctx, "", "", 0)) },
		"Uploads":     func() error { return firstError(b.Uploads(ctx, "")) },
		"StartUpload": func() error { _, err := b.StartUpload(ctx, "data/v"); return err },
		"PutPart":     func() error { _, err := b.PutPart(ctx, u, 2, textBody("x")); return err },
		"Complete":    func() error { _, err := complete(t, b, u, part); return err },
		"Abort":       func() error { return b.Abort(ctx, u) },
	}
}

// TestBusy has the store throttle and fail. When it recovers, the bucket works
// again without another Open.
func TestBusy(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	cfg.Retries = -1
	b := openBucket(t, cfg)
	o := create(t, b, "text")
	u, part := startUpload(t, b, "data/u")
	calls := callsOf(t, b, o.Tag, u, part)
	for _, failure := range []struct {
		status int
		code   string
	}{{503, "SlowDown"}, {503, "ServiceUnavailable"}, {500, "InternalError"}, {429, "TooManyRequests"}, {502, "BadGateway"}, {400, "RequestTimeout"}} {
		proxy.intercept(refuseAll("", failure.status, failure.code))
		for name, call := range calls {
			wantBusy(t, call(), name+" with "+failure.code)
		}
	}
	proxy.intercept(hangUp)
	for name, call := range calls {
		wantBusy(t, call(), name+" on a connection that breaks")
	}
	proxy.intercept(nil)
	wantObject(t, b, "k", "text")
	if _, err := complete(t, b, u, part); err != nil {
		t.Errorf("Complete after the store has recovered = %v", err)
	}
	wantObject(t, b, "data/u", "part")
}

// TestRefused has the store refuse this process's credentials.
func TestRefused(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	cfg.Retries = -1
	b := openBucket(t, cfg)
	o := create(t, b, "text")
	for code, status := range map[string]int{
		"ExpiredToken": 400, "InvalidAccessKeyId": 403, "SignatureDoesNotMatch": 403, "RequestTimeTooSkewed": 403, "AccessDenied": 403, "PermanentRedirect": 301,
	} {
		proxy.intercept(refuseAll("", status, code))
		_, _, err := b.Open(t.Context(), "k", 0, -1)
		wantRefused(t, err, "Open with "+code)
		_, err = b.Replace(t.Context(), "k", o.Tag, textBody("x"))
		wantRefused(t, err, "Replace with "+code)
		_, err = b.StartUpload(t.Context(), "data/u")
		wantRefused(t, err, "StartUpload with "+code)
		wantRefused(t, firstError(b.List(t.Context(), "", "", 0)), "List with "+code)
		_, err = b.Stat(t.Context(), "k")
		wantRefused(t, err, "Stat with "+code)
		wantText(t, err, b.store.advice(&keyError{code: code}), "Stat with "+code)
	}
}

// TestBucketGone has the store report that the bucket does not exist. The
// errors are not about keys.
func TestBucketGone(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	b := openBucket(t, cfg)
	proxy.intercept(refuseAll("", http.StatusNotFound, "NoSuchBucket"))
	_, err := b.Stat(t.Context(), "k")
	wantRefused(t, err, "Stat in a missing bucket")
	_, _, err = b.Open(t.Context(), "k", 0, -1)
	wantRefused(t, err, "Open in a missing bucket")
	_, err = b.Replace(t.Context(), "k", "tag", textBody("x"))
	wantRefused(t, err, "Replace in a missing bucket")
	wantRefused(t, b.DeleteIf(t.Context(), "k", "tag"), "DeleteIf in a missing bucket")
	wantRefused(t, b.Delete(t.Context(), "k"), "Delete in a missing bucket")
	proxy.intercept(nil)
	_, err = b.Stat(t.Context(), "k")
	wantOnly(t, err, drivers.ErrNotFound, "Stat of an absent key")
	if got, want := proxy.operations(), []string{"HeadObject", "GetObject"}; !slices.Equal(got, want) {
		t.Errorf("Stat of an absent key sent %q, want %q", got, want)
	}
}

// TestBatchErrors has DeleteObjects succeed as a whole but fail for one key.
func TestBatchErrors(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	b := openBucket(t, cfg)
	deleteWith := func(code string) error {
		proxy.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if operation(r) != "DeleteObjects" {
				return false
			}
			_, err := io.WriteString(w, "<DeleteResult><Error><Key>b</Key><Code>"+code+"</Code><Message>no</Message></Error></DeleteResult>")
			return err == nil
		})
		return b.Delete(t.Context(), "a", "b")
	}
	wantBusy(t, deleteWith("SlowDown"), "Delete with SlowDown for a key")
	wantNoClaim(t, deleteWith("AccessDenied"), "Delete with AccessDenied for a key")
	if err := deleteWith("NoSuchKey"); err != nil {
		t.Errorf("Delete with NoSuchKey for a key = %v", err)
	}
}

// TestTruncated has listings that are truncated without a token for the rest.
// They return an error, and the driver concludes nothing from them.
func TestTruncated(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	b := openBucket(t, cfg)
	u, part := startUpload(t, b, "data/u")
	b.multipart.checksums = checksumSHA256 // so that Complete lists the parts' tags
	results := map[string]string{"ListObjectsV2": "ListBucketResult", "ListMultipartUploads": "ListMultipartUploadsResult", "ListParts": "ListPartsResult"}
	proxy.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if name, ok := results[operation(r)]; ok {
			fmt.Fprintf(w, "<%s><IsTruncated>true</IsTruncated></%s>", name, name)
			return true
		}
		return operation(r) == "CompleteMultipartUpload" && refuse(w, http.StatusBadRequest, "InvalidPart")
	})
	wantNoClaim(t, firstError(b.List(t.Context(), "", "", 0)), "List of some of the keys")
	wantNoClaim(t, firstError(b.Uploads(t.Context(), "")), "Uploads of some of the uploads")
	_, err := complete(t, b, u, part)
	wantNoClaim(t, err, "Complete with some of the stored parts")
}

// TestRangeIgnored has a proxy answer a request for a range with the whole
// object.
func TestRangeIgnored(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	b := openBucket(t, cfg)
	create(t, b, "0123456789")
	proxy.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		_, err := io.WriteString(w, "0123456789")
		return err == nil && operation(r) == "GetObject"
	})
	_, _, err := b.Open(t.Context(), "k", 5, -1)
	wantNoClaim(t, err, "Open where Range is ignored")
}

// TestReadBreaksOff has the connection close in the middle of an object.
func TestReadBreaksOff(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	b := openBucket(t, cfg)
	create(t, b, "a longer text")
	proxy.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if operation(r) != "GetObject" {
			return false
		}
		w.Header().Set("Content-Length", "13")
		_, _ = io.WriteString(w, "a long") // the server closes the connection, because the rest is missing
		return true
	})
	r, _, err := b.Open(t.Context(), "k", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = io.ReadAll(r)
	wantBusy(t, err, "a read that breaks off")
}

// TestAnswerBroken closes connections in the middle of a response. The outcome
// is the same as without a response.
func TestAnswerBroken(t *testing.T) {
	t.Parallel()
	proxy, cfg := newProxy(t)
	cfg.Retries = -1
	b := openBucket(t, cfg)
	u, part := startUpload(t, b, "data/u")
	half := func(w http.ResponseWriter, status int, text string) bool {
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(status)
		fmt.Fprint(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", text)
		return true
	}
	proxy.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		proxy.backend.ServeHTTP(httptest.NewRecorder(), r)
		return half(w, http.StatusOK, "<")
	})
	_, err := complete(t, b, u, part)
	wantBusy(t, err, "Complete with half a response")
	wantBusy(t, firstError(b.List(t.Context(), "", "", 0)), "List with half a response")
	proxy.intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		return half(w, http.StatusBadRequest, "<Error><Co")
	})
	_, err = b.Create(t.Context(), "k", textBody("x"))
	wantBusy(t, err, "Create with half a refusal")
	proxy.intercept(nil)
	if _, err := complete(t, b, u, part); err != nil {
		t.Errorf("Complete after the failures = %v", err)
	}
	wantObject(t, b, "data/u", "part")
}
