package s3double

import (
	"cmp"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berthhq/berth/drivers"
)

// upload is a multipart upload in progress.
type upload struct {
	id, path    string
	started     time.Time
	algorithm   string // of the checksums, in upper case
	contentType string
	parts       map[int]*part
}

type part struct {
	number int
	data   []byte
	etag   string
	md5    [md5.Size]byte
	crc32c uint32
	sha256 string // only if it is the upload's algorithm
}

func (c *call) createUpload() error {
	h := c.r.Header
	if c.knobs.NoWholeChecksum && h.Get("X-Amz-Checksum-Type") == "FULL_OBJECT" {
		return fault(http.StatusNotImplemented, "NotImplemented", "Header 'x-amz-checksum-type' with value 'FULL_OBJECT' not implemented")
	}
	u := &upload{
		id: rand.Text(), path: c.path, started: c.now, algorithm: strings.ToUpper(h.Get("X-Amz-Checksum-Algorithm")),
		contentType: h.Get("Content-Type"), parts: make(map[int]*part),
	}
	c.mu.Lock()
	c.uploads[u.id] = u
	c.mu.Unlock()
	c.respond(http.StatusOK, struct {
		XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
		UploadId string
	}{UploadId: u.id})
	return nil
}

// upload returns the upload of the request. The caller holds c.mu.
func (c *call) upload() (*upload, error) {
	u := c.uploads[c.r.URL.Query().Get("uploadId")]
	if u == nil || u.path != c.path {
		return nil, fault(http.StatusNotFound, "NoSuchUpload", "The specified multipart upload does not exist.")
	}
	return u, nil
}

func (c *call) uploadPart() error {
	number, err := strconv.Atoi(c.r.URL.Query().Get("partNumber"))
	if err != nil || number < 1 || number > 10_000 {
		return fault(http.StatusBadRequest, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
	}
	if _, err := c.checkBody(); err != nil {
		return err
	}
	p := &part{number: number, data: c.body, md5: md5.Sum(c.body), crc32c: drivers.UpdateCRC32C(0, c.body)}
	p.etag = c.etag(p.md5)
	if err := c.addPart(p); err != nil {
		return err
	}
	c.w.Header().Set("ETag", p.etag)
	c.respond(http.StatusOK, nil)
	return nil
}

func (c *call) addPart(p *part) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, err := c.upload()
	if err != nil {
		return err
	}
	if u.algorithm == "SHA256" {
		p.sha256 = encodeSHA256(p.data)
	}
	u.parts[p.number] = p
	return nil
}

// completion is the body of a CompleteMultipartUpload.
type completion struct {
	Part []namedPart
}

// namedPart is a part that a completion names.
type namedPart struct {
	PartNumber     int
	ETag           string
	ChecksumCRC32C string
	ChecksumSHA256 string
}

func (c *call) completeUpload() error {
	var in completion
	if err := xml.Unmarshal(c.body, &in); err != nil || len(in.Part) == 0 {
		return fault(http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed")
	}
	defer c.lock()()
	o, crc, err := c.assemble(&in)
	if err != nil {
		return err
	}
	id := c.r.URL.Query().Get("uploadId")
	if !c.knobs.CompleteIgnores {
		if err := c.checkConditions(); err != nil {
			if c.knobs.CompleteAborts {
				c.drop(id)
			}
			return err
		}
	}
	c.put(c.region, c.path, o)
	c.drop(id)
	type result struct {
		XMLName        xml.Name `xml:"CompleteMultipartUploadResult"`
		ETag           string
		ChecksumCRC32C string `xml:",omitempty"`
	}
	c.respond(http.StatusOK, result{ETag: o.etag, ChecksumCRC32C: crc})
	return nil
}

func (c *call) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.uploads, id)
}

// assemble returns the object of the parts that the request lists, and the
// CRC-32C of the whole object if the request has it.
func (c *call) assemble(in *completion) (*object, string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, err := c.upload()
	if err != nil {
		return nil, "", err
	}
	parts, err := u.named(in, c.knobs)
	if err != nil {
		return nil, "", err
	}
	var whole [][]byte
	var sums []byte
	var crc uint32
	for _, p := range parts {
		whole = append(whole, p.data)
		crc = drivers.CombineCRC32C(crc, p.crc32c, int64(len(p.data)))
		sums = append(sums, p.md5[:]...)
	}
	sent := c.r.Header.Get(headerCRC32C)
	switch {
	case c.knobs.IgnoreChecksums:
		sent = ""
	case sent != "" && sent != drivers.EncodeCRC32C(crc):
		return nil, "", fault(http.StatusBadRequest, "BadDigest", "The checksum you specified did not match the calculated checksum.")
	}
	s := md5.Sum(sums)
	etag := fmt.Sprintf(`"%s-%d"`, hex.EncodeToString(s[:]), len(parts))
	if c.knobs.RandomETags {
		etag = c.etag(s)
	}
	// Modified is the start of the upload, as in Amazon S3.
	return &object{data: slices.Concat(whole...), etag: etag, modified: u.started, header: http.Header{"Content-Type": {u.contentType}}}, sent, nil
}

// named returns the parts that a completion names. It returns an error if one is
// not stored, or if their order or sizes are wrong.
func (u *upload) named(in *completion, knobs Knobs) ([]*part, error) {
	var parts []*part
	for i, n := range in.Part {
		p := u.parts[n.PartNumber]
		switch {
		case i > 0 && n.PartNumber <= in.Part[i-1].PartNumber:
			return nil, fault(http.StatusBadRequest, "InvalidPartOrder", "The list of parts was not in ascending order.")
		case p == nil || p.etag != n.ETag && p.etag != `"`+n.ETag+`"`, !knobs.IgnoreChecksums && !p.matches(n):
			return nil, fault(http.StatusBadRequest, "InvalidPart", "One or more of the specified parts could not be found.")
		}
		parts = append(parts, p)
	}
	last := parts[len(parts)-1]
	for _, p := range parts[:len(parts)-1] {
		if len(p.data) < cmp.Or(knobs.MinPart, 5<<20) {
			return nil, fault(http.StatusBadRequest, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed object size.")
		}
		if knobs.EqualParts && (len(p.data) != len(parts[0].data) || len(last.data) > len(parts[0].data)) {
			return nil, fault(http.StatusBadRequest, "InvalidPart", "All non-trailing parts must have the same length.")
		}
	}
	return parts, nil
}

// matches reports whether the part has the checksums that a completion names.
func (p *part) matches(n namedPart) bool {
	return (n.ChecksumCRC32C == "" || n.ChecksumCRC32C == drivers.EncodeCRC32C(p.crc32c)) &&
		(n.ChecksumSHA256 == "" || n.ChecksumSHA256 == p.sha256)
}

func (c *call) abortUpload() error {
	c.mu.Lock()
	u, err := c.upload()
	if err == nil {
		delete(c.uploads, u.id)
	}
	c.mu.Unlock()
	if err == nil {
		c.respond(http.StatusNoContent, nil)
	}
	return err
}

func (c *call) listUploads() error {
	type result struct {
		XMLName            xml.Name `xml:"ListMultipartUploadsResult"`
		IsTruncated        bool
		NextKeyMarker      string `xml:",omitempty"`
		NextUploadIdMarker string `xml:",omitempty"`
		Upload             []listed
	}
	q := c.r.URL.Query()
	var out result
	c.mu.Lock()
	for _, u := range c.uploads {
		key, ok := strings.CutPrefix(u.path, c.bucket+"/")
		after := key > q.Get("key-marker") || key == q.Get("key-marker") && q.Has("upload-id-marker") && u.id > q.Get("upload-id-marker")
		if ok && after && strings.HasPrefix(key, q.Get("prefix")) {
			out.Upload = append(out.Upload, listed{Key: key, UploadId: u.id, Initiated: iso(u.started)})
		}
	}
	c.mu.Unlock()
	slices.SortFunc(out.Upload, func(a, b listed) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.UploadId, b.UploadId))
	})
	if n := pageSize(c, "max-uploads"); len(out.Upload) > n {
		out.Upload, out.IsTruncated = out.Upload[:n], true
		out.NextKeyMarker, out.NextUploadIdMarker = out.Upload[n-1].Key, out.Upload[n-1].UploadId
	}
	c.respond(http.StatusOK, out)
	return nil
}

// storedPart is a part in a listing.
type storedPart struct {
	PartNumber     int
	ETag           string
	Size           int
	ChecksumCRC32C string `xml:",omitempty"`
	ChecksumSHA256 string `xml:",omitempty"`
}

func (c *call) listParts() error {
	type result struct {
		XMLName              xml.Name `xml:"ListPartsResult"`
		IsTruncated          bool
		NextPartNumberMarker int `xml:",omitempty"`
		Part                 []storedPart
	}
	after, _ := strconv.Atoi(c.r.URL.Query().Get("part-number-marker"))
	stored, err := c.storedParts(after)
	if err != nil {
		return err
	}
	out := result{Part: stored}
	if n := pageSize(c, "max-parts"); len(stored) > n {
		out.Part, out.IsTruncated, out.NextPartNumberMarker = stored[:n], true, stored[n-1].PartNumber
	}
	c.respond(http.StatusOK, out)
	return nil
}

func (c *call) storedParts(after int) ([]storedPart, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, err := c.upload()
	if err != nil {
		return nil, err
	}
	var stored []storedPart
	for _, n := range slices.Sorted(maps.Keys(u.parts)) {
		if n <= after {
			continue
		}
		p := u.parts[n]
		entry := storedPart{PartNumber: n, ETag: p.etag, Size: len(p.data), ChecksumSHA256: p.sha256}
		if u.algorithm == "CRC32C" && !c.knobs.IgnoreChecksums {
			entry.ChecksumCRC32C = drivers.EncodeCRC32C(p.crc32c)
		}
		stored = append(stored, entry)
	}
	return stored, nil
}
