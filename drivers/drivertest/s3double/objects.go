package s3double

import (
	"cmp"
	"crypto/md5"
	"encoding/xml"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (c *call) putObject() error {
	headers, err := c.checkBody()
	if err != nil {
		return err
	}
	defer c.lock()()
	if err := c.checkConditions(); err != nil {
		return err
	}
	headers.Set("Content-Type", c.r.Header.Get("Content-Type"))
	o := &object{data: c.body, etag: c.etag(md5.Sum(c.body)), modified: c.now, header: headers}
	c.put(c.region, c.path, o)
	c.w.Header().Set("ETag", o.etag)
	c.respond(http.StatusOK, nil)
	return nil
}

// getObject serves GetObject and HeadObject.
func (c *call) getObject() error {
	o := c.get(c.region, c.path)
	if o == nil {
		return fault(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	}
	h := c.w.Header()
	h.Set("ETag", o.etag)
	h.Set("Last-Modified", o.modified.UTC().Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", o.header.Get("Content-Type"))
	for parameter, values := range c.r.URL.Query() {
		if name, ok := strings.CutPrefix(parameter, "response-"); ok {
			h.Set(name, values[0])
		}
	}
	first, last, status := int64(0), int64(len(o.data))-1, http.StatusOK
	if r := c.r.Header.Get("Range"); r != "" {
		var ok bool
		if first, last, ok = byteRange(r, int64(len(o.data))); !ok {
			return fault(http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "The requested range is not satisfiable")
		}
		status = http.StatusPartialContent
		h.Set("Content-Range", "bytes "+strconv.FormatInt(first, 10)+"-"+strconv.FormatInt(last, 10)+"/"+strconv.Itoa(len(o.data)))
	}
	h.Set("Content-Length", strconv.FormatInt(last+1-first, 10))
	c.w.WriteHeader(status)
	if c.r.Method != http.MethodHead {
		_, _ = c.w.Write(o.data[first : last+1])
	}
	return nil
}

// byteRange returns the first and the last byte of a Range header with one
// range. It returns false if the range is not valid for an object of this size.
func byteRange(header string, size int64) (first, last int64, ok bool) {
	from, to, _ := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	last = size - 1
	if to != "" {
		n, err := strconv.ParseInt(to, 10, 64)
		if err != nil {
			return 0, 0, false
		}
		last = min(last, n)
	}
	if from == "" { // the last bytes
		n, err := strconv.ParseInt(to, 10, 64)
		return max(0, size-n), size - 1, err == nil && n > 0 && size > 0
	}
	first, err := strconv.ParseInt(from, 10, 64)
	return first, last, err == nil && first < size && first <= last
}

func (c *call) deleteObject() error {
	if c.knobs.NoDeleteByTag && c.r.Header.Get("If-Match") != "" {
		return fault(http.StatusNotImplemented, "NotImplemented", "Header 'If-Match' with value not implemented")
	}
	defer c.lock()()
	if err := c.checkConditions(); err != nil {
		return err
	}
	c.put(c.region, c.path, nil)
	c.respond(http.StatusNoContent, nil)
	return nil
}

func (c *call) deleteObjects() error {
	if _, err := c.checkBody(); err != nil {
		return err
	}
	var in struct {
		Object []struct{ Key string }
	}
	if err := xml.Unmarshal(c.body, &in); err != nil || len(in.Object) > 1000 {
		return fault(http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed")
	}
	for _, o := range in.Object {
		c.path = c.bucket + "/" + o.Key
		unlock := c.lock()
		c.put(c.region, c.path, nil)
		unlock()
	}
	c.respond(http.StatusOK, struct {
		XMLName xml.Name `xml:"DeleteResult"`
	}{})
	return nil
}

// listed is an object or an upload in a listing.
type listed struct {
	Key          string
	ETag         string `xml:",omitempty"`
	Size         int
	LastModified string `xml:",omitempty"`
	UploadId     string `xml:",omitempty"`
	Initiated    string `xml:",omitempty"`
}

func (c *call) listObjects() error {
	type result struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []listed
	}
	q := c.r.URL.Query()
	after := q.Get("start-after")
	if token := q.Get("continuation-token"); token != "" {
		after = token
	}
	var out result
	c.mu.Lock()
	for path, o := range c.regions[c.region] {
		key, ok := strings.CutPrefix(path, c.bucket+"/")
		if ok && strings.HasPrefix(key, q.Get("prefix")) && key > after {
			out.Contents = append(out.Contents, listed{Key: key, ETag: o.etag, Size: len(o.data), LastModified: iso(o.modified)})
		}
	}
	c.mu.Unlock()
	slices.SortFunc(out.Contents, func(a, b listed) int { return strings.Compare(a.Key, b.Key) })
	if n := pageSize(c, "max-keys"); len(out.Contents) > n {
		out.Contents, out.IsTruncated = out.Contents[:n], true
		out.NextContinuationToken = out.Contents[n-1].Key
	}
	c.respond(http.StatusOK, out)
	return nil
}

// pageSize returns the maximum number of entries of a listing. parameter is the
// parameter by which a client can lower it.
func pageSize(c *call, parameter string) int {
	most := cmp.Or(c.knobs.PageSize, 1000)
	n, err := strconv.Atoi(c.r.URL.Query().Get(parameter))
	if err != nil {
		return most
	}
	return max(1, min(n, most))
}

func iso(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
