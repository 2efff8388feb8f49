package s3

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/berthhq/berth/drivers"
)

// sentinels returns the names of the sentinels that err wraps.
func sentinels(err error) string {
	var names []string
	for _, s := range []error{drivers.ErrNotFound, drivers.ErrExists, drivers.ErrChanged, drivers.ErrRange, drivers.ErrBusy, drivers.ErrRefused, drivers.ErrFull, errors.ErrUnsupported} {
		if errors.Is(err, s) {
			names = append(names, s.Error())
		}
	}
	return strings.Join(names, ", ")
}

// wantBusy fails the test unless err wraps ErrBusy and no other sentinel.
func wantBusy(t *testing.T, err error, call string) {
	t.Helper()
	if got := sentinels(err); got != drivers.ErrBusy.Error() {
		t.Errorf("%s = %v (%s), want %v", call, err, got, drivers.ErrBusy)
	}
}

// wantNoClaim fails the test unless err is an error without a sentinel about a
// key.
func wantNoClaim(t *testing.T, err error, call string) {
	t.Helper()
	if got := sentinels(err); err == nil || got != "" && got != drivers.ErrRefused.Error() {
		t.Errorf("%s = %v (%s), want an error without a sentinel about a key", call, err, got)
	}
}

// TestConflict has S3 answer 409, as it does while another write of the key is
// in progress.
func TestConflict(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	b := openBucket(t, cfg)
	conflict := func(w http.ResponseWriter, _ *http.Request) bool {
		return fails(w, http.StatusConflict, "ConditionalRequestConflict")
	}

	d.plays(once("PutObject", conflict))
	o := create(t, b, "first")
	d.plays(once("PutObject", conflict))
	o, err := b.Replace(t.Context(), "k", o.Tag, drivers.NewBody([]byte("second")))
	if err != nil {
		t.Fatalf("Replace after one conflict = %v", err)
	}
	wantObject(t, b, "k", "second")

	// After a 409 the refusal that follows is about another client's write.
	d.plays(once("PutObject", conflict))
	if _, err := b.Create(t.Context(), "k", drivers.NewBody([]byte("third"))); sentinels(err) != drivers.ErrExists.Error() {
		t.Errorf("Create of a taken key after one conflict = %v, want %v", err, drivers.ErrExists)
	}
	d.plays(once("DeleteObject", conflict))
	if err := b.DeleteIf(t.Context(), "k", o.Tag); err != nil {
		t.Errorf("DeleteIf after one conflict = %v", err)
	}

	d.plays(once("PutObject", always("", http.StatusConflict, "ExistingObjectIsDirectory")))
	if _, err := b.Create(t.Context(), "dir/k", drivers.NewBody([]byte("x"))); err != nil {
		t.Errorf("Create after its directory was removed once = %v", err)
	}

	d.plays(always("PutObject", http.StatusConflict, "ConditionalRequestConflict"))
	_, err = b.Create(t.Context(), "l", drivers.NewBody([]byte("x")))
	wantBusy(t, err, "Create in conflict all the time")
	if got := len(d.operations()); got != 1+defaultRetries {
		t.Errorf("Create made %d requests, want %d", got, 1+defaultRetries)
	}
}

// TestCompleteConflict has S3 answer 409 to a Complete, as the status or in a
// 200. The result depends on the state of the upload.
func TestCompleteConflict(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	b := openBucket(t, cfg)
	for _, status := range []int{http.StatusConflict, http.StatusOK} {
		conflict := func(w http.ResponseWriter, _ *http.Request) bool {
			return fails(w, status, "ConditionalRequestConflict")
		}
		start := func(key string) (drivers.Upload, drivers.Part) {
			t.Helper()
			d.plays(nil)
			u, err := b.StartUpload(t.Context(), fmt.Sprintf("data/%d/%s", status, key))
			if err != nil {
				t.Fatal(err)
			}
			part, err := b.PutPart(t.Context(), u, 1, drivers.NewBody([]byte(key)))
			if err != nil {
				t.Fatal(err)
			}
			return u, part
		}
		complete := func(u drivers.Upload, p drivers.Part) error {
			o, err := b.Complete(t.Context(), u, []drivers.Part{p}, p.CRC32C)
			if err == nil && (o.Key != u.Key || o.Size != p.Size) {
				t.Errorf("Complete of %s = %+v, want an object of %d bytes", u.Key, o, p.Size)
			}
			return err
		}

		u, part := start("there")
		d.plays(once("CompleteMultipartUpload", conflict))
		if err := complete(u, part); err != nil {
			t.Errorf("Complete after one conflict = %v", err)
		}
		wantObject(t, b, u.Key, "there")

		u, part = start("made")
		d.plays(once("CompleteMultipartUpload", func(w http.ResponseWriter, r *http.Request) bool {
			d.backend.ServeHTTP(httptest.NewRecorder(), r)
			d.plays(always("CompleteMultipartUpload", status, "ConditionalRequestConflict"))
			return conflict(w, r)
		}))
		if err := complete(u, part); err != nil {
			t.Errorf("Complete in conflict with one that made the object = %v", err)
		}

		u, part = start("refused")
		if err := complete(u, part); err != nil {
			t.Fatal(err)
		}
		d.plays(always("CompleteMultipartUpload", status, "PreconditionFailed"))
		if err := complete(u, part); err != nil {
			t.Errorf("Complete with a condition that fails, because the object exists = %v", err)
		}

		u, part = start("kept")
		d.plays(always("CompleteMultipartUpload", status, "ConditionalRequestConflict"))
		wantBusy(t, complete(u, part), "Complete in conflict all the time")
		d.plays(nil)
		if err := complete(u, part); err != nil {
			t.Errorf("Complete when the conflict is over = %v", err)
		}

		u, part = start("gone")
		if err := b.Abort(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		d.plays(once("CompleteMultipartUpload", conflict))
		if err := complete(u, part); sentinels(err) != drivers.ErrNotFound.Error() {
			t.Errorf("Complete in conflict, of an upload that is gone = %v, want %v", err, drivers.ErrNotFound)
		}
	}
}

// TestCutShort has listings that are truncated without a token for the rest.
// They return an error, and nothing is concluded from them.
func TestCutShort(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	b := openBucket(t, cfg)
	u, part := begin(t, b)
	b.(*bucket).multipart.checksums = checksumSHA256 // so that Complete lists the parts' tags
	d.plays(func(w http.ResponseWriter, r *http.Request) bool {
		switch op := operation(r); op {
		case "ListObjectsV2", "ListMultipartUploads", "ListParts":
			result := map[string]string{"ListObjectsV2": "ListBucketResult", "ListMultipartUploads": "ListMultipartUploadsResult", "ListParts": "ListPartsResult"}[op]
			fmt.Fprintf(w, "<%s><IsTruncated>true</IsTruncated></%s>", result, result)
			return true
		case "CompleteMultipartUpload":
			return fails(w, http.StatusBadRequest, "InvalidPart")
		default:
			return false
		}
	})
	wantNoClaim(t, firstError(b.List(t.Context(), "", "")), "List of a part of the keys")
	wantNoClaim(t, firstError(b.Uploads(t.Context(), "")), "Uploads of a part of them")
	_, err := b.Complete(t.Context(), u, []drivers.Part{part}, part.CRC32C)
	wantNoClaim(t, err, "Complete with a part of the parts")
}

// TestBusy has the store throttle and fail. When it recovers, the bucket works
// again without another Open.
func TestBusy(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	cfg.Retries = -1
	b := openBucket(t, cfg)
	o := create(t, b, "text")
	u, part := begin(t, b)
	calls := map[string]func() error{
		"Create":      func() error { _, err := b.Create(t.Context(), "new", drivers.NewBody([]byte("x"))); return err },
		"Replace":     func() error { _, err := b.Replace(t.Context(), "k", o.Tag, drivers.NewBody([]byte("x"))); return err },
		"DeleteIf":    func() error { return b.DeleteIf(t.Context(), "k", o.Tag) },
		"Delete":      func() error { return b.Delete(t.Context(), "k") },
		"Delete of 2": func() error { return b.Delete(t.Context(), "k", "l") },
		"Open":        func() error { _, _, err := b.Open(t.Context(), "k", 0, -1); return err },
		"Stat":        func() error { _, err := b.Stat(t.Context(), "k"); return err },
		"List":        func() error { return firstError(b.List(t.Context(), "", "")) },
		"Uploads":     func() error { return firstError(b.Uploads(t.Context(), "")) },
		"StartUpload": func() error { _, err := b.StartUpload(t.Context(), "data/v"); return err },
		"PutPart":     func() error { _, err := b.PutPart(t.Context(), u, 2, drivers.NewBody([]byte("x"))); return err },
		"Complete":    func() error { _, err := b.Complete(t.Context(), u, []drivers.Part{part}, part.CRC32C); return err },
		"Abort":       func() error { return b.Abort(t.Context(), u) },
	}
	for _, trouble := range []struct {
		status int
		code   string
	}{{503, "SlowDown"}, {503, "ServiceUnavailable"}, {500, "InternalError"}, {429, "TooManyRequests"}, {502, "BadGateway"}, {400, "RequestTimeout"}} {
		d.plays(always("", trouble.status, trouble.code))
		for name, call := range calls {
			wantBusy(t, call(), name+" with "+trouble.code)
		}
	}
	d.plays(func(w http.ResponseWriter, _ *http.Request) bool {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
		return true
	})
	for name, call := range calls {
		wantBusy(t, call(), name+" on a connection that breaks")
	}
	d.plays(nil)
	wantObject(t, b, "k", "text")
	if _, err := b.Complete(t.Context(), u, []drivers.Part{part}, part.CRC32C); err != nil {
		t.Errorf("Complete, when the store works again = %v", err)
	}
	wantObject(t, b, "data/u", "part")
}

// firstError returns the first error of a listing.
func firstError[T any](seq func(func(T, error) bool)) (failed error) {
	for _, err := range seq {
		failed = err
	}
	return failed
}

// TestBatchErrors has DeleteObjects succeed as a whole but fail for one key.
func TestBatchErrors(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	b := openBucket(t, cfg)
	answer := func(code string) {
		d.plays(func(w http.ResponseWriter, r *http.Request) bool {
			if operation(r) != "DeleteObjects" {
				return false
			}
			_, err := w.Write([]byte("<DeleteResult><Error><Key>b</Key><Code>" + code + "</Code><Message>no</Message></Error></DeleteResult>"))
			return err == nil
		})
	}
	answer("SlowDown")
	wantBusy(t, b.Delete(t.Context(), "a", "b"), "Delete with SlowDown for a key")
	answer("AccessDenied")
	wantNoClaim(t, b.Delete(t.Context(), "a", "b"), "Delete with AccessDenied for a key")
	answer("NoSuchKey")
	if err := b.Delete(t.Context(), "a", "b"); err != nil {
		t.Errorf("Delete with NoSuchKey for a key = %v", err)
	}
}

// TestLostAnswer loses the answer to a write that took effect. On the next
// attempt the condition fails because of the write itself, so the outcome is
// unknown.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	b := openBucket(t, cfg)

	d.plays(once("PutObject", d.loses))
	_, err := b.Create(t.Context(), "k", drivers.NewBody([]byte("first")))
	wantNoClaim(t, err, "Create whose answer was lost")
	wantObject(t, b, "k", "first")

	o, err := b.Stat(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	d.plays(once("PutObject", d.loses))
	_, err = b.Replace(t.Context(), "k", o.Tag, drivers.NewBody([]byte("second")))
	wantNoClaim(t, err, "Replace whose answer was lost")
	wantObject(t, b, "k", "second")

	if o, err = b.Stat(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	d.plays(once("DeleteObject", d.loses))
	if err := b.DeleteIf(t.Context(), "k", o.Tag); err != nil {
		t.Errorf("DeleteIf after a lost answer = %v", err)
	}

	u, err := b.StartUpload(t.Context(), "data/u")
	if err != nil {
		t.Fatal(err)
	}
	d.plays(once("UploadPart", d.loses))
	part, err := b.PutPart(t.Context(), u, 1, drivers.NewBody([]byte("part")))
	if err != nil {
		t.Fatalf("PutPart after a lost answer = %v", err)
	}
	d.plays(once("CompleteMultipartUpload", d.loses))
	if o, err = b.Complete(t.Context(), u, []drivers.Part{part}, part.CRC32C); err != nil {
		t.Fatalf("Complete after a lost answer = %v", err)
	}
	if there, err := b.Stat(t.Context(), "data/u"); err != nil || there.Tag != o.Tag || there.Size != o.Size {
		t.Errorf("Complete = %+v, and Stat = %+v, %v", o, there, err)
	}
	wantObject(t, b, "data/u", "part")
}

// TestCompleteError200 has S3 answer 200 to a Complete, with an error in the
// body.
func TestCompleteError200(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	b := openBucket(t, cfg)
	u, part := begin(t, b)
	d.plays(always("CompleteMultipartUpload", http.StatusOK, "InternalError"))
	_, err := b.Complete(t.Context(), u, []drivers.Part{part}, part.CRC32C)
	wantBusy(t, err, "Complete with InternalError in a 200")
	if _, err := b.Stat(t.Context(), "data/u"); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Stat after a failed Complete = %v, want %v", err, drivers.ErrNotFound)
	}
	d.plays(once("CompleteMultipartUpload", func(w http.ResponseWriter, _ *http.Request) bool { return fails(w, http.StatusOK, "InternalError") }))
	if _, err := b.Complete(t.Context(), u, []drivers.Part{part}, part.CRC32C); err != nil {
		t.Errorf("Complete after one InternalError in a 200 = %v", err)
	}
	wantObject(t, b, "data/u", "part")
}

// TestDeleteOvertaken has the store answer 412 to a delete. It succeeds if
// another delete has removed the key, and returns ErrChanged if the object
// exists.
func TestDeleteOvertaken(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	b := openBucket(t, cfg)
	d.plays(always("DeleteObject", http.StatusPreconditionFailed, "PreconditionFailed"))
	if err := b.DeleteIf(t.Context(), "k", "tag"); err != nil {
		t.Errorf("DeleteIf of what is gone = %v, want success", err)
	}
	o := create(t, b, "text")
	if err := b.DeleteIf(t.Context(), "k", o.Tag); !errors.Is(err, drivers.ErrChanged) {
		t.Errorf("DeleteIf that is refused = %v, want %v", err, drivers.ErrChanged)
	}
}

// wantRefused fails the test unless err wraps ErrRefused and no other sentinel.
func wantRefused(t *testing.T, err error, call string) {
	t.Helper()
	if got := sentinels(err); got != drivers.ErrRefused.Error() {
		t.Errorf("%s = %v (%s), want %v", call, err, got, drivers.ErrRefused)
	}
}

// TestRefused has the store refuse this process's credentials.
func TestRefused(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	cfg.Retries = -1
	b := openBucket(t, cfg)
	o := create(t, b, "text")
	for code, status := range map[string]int{
		"ExpiredToken": 400, "InvalidAccessKeyId": 403, "SignatureDoesNotMatch": 403, "RequestTimeTooSkewed": 403, "AccessDenied": 403, "PermanentRedirect": 301,
	} {
		d.plays(always("", status, code))
		_, _, err := b.Open(t.Context(), "k", 0, -1)
		wantRefused(t, err, "Open with "+code)
		_, err = b.Replace(t.Context(), "k", o.Tag, drivers.NewBody([]byte("x")))
		wantRefused(t, err, "Replace with "+code)
		_, err = b.StartUpload(t.Context(), "data/u")
		wantRefused(t, err, "StartUpload with "+code)
		wantRefused(t, firstError(b.List(t.Context(), "", "")), "List with "+code)
		_, err = b.Stat(t.Context(), "k")
		wantRefused(t, err, "Stat with "+code)
		if want := b.(*bucket).store.advice(&keyError{code: code}); err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("Stat with %s = %v, want an error that contains %s", code, err, want)
		}
	}
}

// TestBucketGone deletes the bucket in service: the errors are not about keys.
func TestBucketGone(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	b := openBucket(t, cfg)
	d.plays(always("", http.StatusNotFound, "NoSuchBucket"))
	_, err := b.Stat(t.Context(), "k")
	wantRefused(t, err, "Stat in a missing bucket")
	_, _, err = b.Open(t.Context(), "k", 0, -1)
	wantRefused(t, err, "Open in a missing bucket")
	_, err = b.Replace(t.Context(), "k", "tag", drivers.NewBody([]byte("x")))
	wantRefused(t, err, "Replace in a missing bucket")
	wantRefused(t, b.DeleteIf(t.Context(), "k", "tag"), "DeleteIf in a missing bucket")
	wantRefused(t, b.Delete(t.Context(), "k"), "Delete in a missing bucket")
	d.plays(nil)
	if _, err := b.Stat(t.Context(), "k"); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Stat of an absent key = %v, want %v", err, drivers.ErrNotFound)
	}
	if got, want := d.operations(), []string{"HeadObject", "GetObject"}; !slices.Equal(got, want) {
		t.Errorf("Stat of an absent key sent %q, want %q", got, want)
	}
}

// TestPartRefusedEarly has the store answer before it has read a part, and
// close the connection, so that the answer is lost.
func TestPartRefusedEarly(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	b := openBucket(t, cfg)
	u, err := b.StartUpload(t.Context(), "data/u")
	if err != nil {
		t.Fatal(err)
	}
	breaks := func(w http.ResponseWriter, r *http.Request) bool {
		if operation(r) != "UploadPart" {
			return false
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
		return true
	}
	d.plays(breaks)
	_, err = b.PutPart(t.Context(), u, 1, drivers.NewBody([]byte("part")))
	wantBusy(t, err, "PutPart on a connection that breaks")
	if err := b.Abort(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	_, err = b.PutPart(t.Context(), u, 1, drivers.NewBody([]byte("part")))
	if sentinels(err) != drivers.ErrNotFound.Error() {
		t.Errorf("PutPart of an aborted upload on a connection that breaks = %v, want %v", err, drivers.ErrNotFound)
	}
}

// TestRangeIgnored has a proxy answer a request for a range with the whole
// object.
func TestRangeIgnored(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	b := openBucket(t, cfg)
	create(t, b, "0123456789")
	d.plays(func(w http.ResponseWriter, r *http.Request) bool {
		_, err := w.Write([]byte("0123456789"))
		return err == nil && operation(r) == "GetObject"
	})
	_, _, err := b.Open(t.Context(), "k", 5, -1)
	wantNoClaim(t, err, "Open where Range is ignored")
}

// TestReadBreaksOff has a connection close in the middle of an answer.
func TestReadBreaksOff(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	b := openBucket(t, cfg)
	create(t, b, "a longer text")
	d.plays(func(w http.ResponseWriter, r *http.Request) bool {
		if operation(r) != "GetObject" {
			return false
		}
		w.Header().Set("Content-Length", "13")
		_, _ = w.Write([]byte("a long")) // the server closes the connection, because the rest is missing
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

// TestAnswerBroken closes connections in the middle of an answer. The outcome
// is the same as without an answer.
func TestAnswerBroken(t *testing.T) {
	t.Parallel()
	d, cfg := newDouble(t)
	cfg.Retries = -1
	b := openBucket(t, cfg)
	u, part := begin(t, b)
	d.plays(func(w http.ResponseWriter, r *http.Request) bool {
		d.backend.ServeHTTP(httptest.NewRecorder(), r)
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<")
		return true
	})
	_, err := b.Complete(t.Context(), u, []drivers.Part{part}, part.CRC32C)
	wantBusy(t, err, "Complete with half an answer")
	wantBusy(t, firstError(b.List(t.Context(), "", "")), "List with half an answer")
	d.plays(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Co")
		return true
	})
	_, err = b.Create(t.Context(), "k", drivers.NewBody([]byte("x")))
	wantBusy(t, err, "Create with half a refusal")
	d.plays(nil)
	if _, err := b.Complete(t.Context(), u, []drivers.Part{part}, part.CRC32C); err != nil {
		t.Errorf("Complete again = %v", err)
	}
	wantObject(t, b, "data/u", "part")
}
