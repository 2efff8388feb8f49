package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/berthhq/berth/drivers"
)

// upload determines how parts get their ETags, which checksums multipart
// uploads may carry, whether the store compares them, and, unless the bucket is for
// data only, whether a Complete replaces the object at its key. It returns only these
// capabilities.
func (p prober) upload(ctx context.Context) (can capabilities, err error) {
	if can.checksums, err = p.checksumMode(ctx); err != nil {
		return capabilities{}, err
	}
	m := multipart{p.store, can.checksums}
	u, err := m.start(ctx, p.keys.upload())
	if err != nil {
		return can, fmt.Errorf("start a multipart upload: %w", p.store.classify(ctx, err))
	}
	defer p.abort(ctx, u)
	if can.ignoresChecksums, err = p.partChecksum(ctx, m, u); err != nil || p.store.cfg.DataOnly {
		return can, err
	}
	can.completeReplaces, err = p.completeReplaces(ctx, m, u)
	return can, err
}

// checksumMode determines the best checksums that the store supports, by an
// upload, and leaves an object at the upload's key.
func (p prober) checksumMode(ctx context.Context) (checksumMode, error) {
	m, u, err := p.startUpload(ctx)
	if err != nil {
		return checksumNone, err
	}
	defer p.abort(ctx, u)
	body := probeBody()
	first, err := m.putPart(ctx, u, 1, body)
	if err != nil {
		return checksumNone, fmt.Errorf("write a part: %w", err)
	}
	part, err := m.putPart(ctx, u, 1, body)
	switch {
	case err != nil:
		return checksumNone, fmt.Errorf("write a part: %w", err)
	case first.Tag != part.Tag && m.checksums == checksumNone:
		return checksumNone, errors.New("s3.Config.Checksum: none can't be used with this bucket, because its parts of equal bytes have different ETags, as with SSE-KMS: use crc32c")
	}
	mode, err := p.completeUpload(ctx, m, u, part)
	if err == nil && first.Tag != part.Tag {
		mode = checksumSHA256
	}
	return mode, err
}

// startUpload starts an upload with the best checksums that the store accepts.
func (p prober) startUpload(ctx context.Context) (m multipart, u drivers.Upload, err error) {
	candidates := []checksumMode{checksumNone}
	if p.store.cfg.sendsChecksums() {
		candidates = []checksumMode{checksumWhole, checksumParts}
	}
	for _, mode := range candidates {
		m = multipart{p.store, mode}
		if u, err = m.start(ctx, p.keys.upload()); !isUnsupported(err) {
			break
		}
	}
	switch {
	case err == nil:
		return m, u, nil
	case isUnsupported(err) && p.store.cfg.sendsChecksums():
		return m, u, fmt.Errorf("s3.Config.Checksum: the store accepts no multipart upload with CRC-32C (try none): %w", err)
	default:
		return m, u, fmt.Errorf("start a multipart upload: %w", p.store.classify(ctx, err))
	}
}

// completeUpload completes an upload of one part, and returns the checksums
// that the store has accepted. If the store does not support the checksum of
// the whole object, it creates the object by a second upload.
func (p prober) completeUpload(ctx context.Context, m multipart, u drivers.Upload, part drivers.Part) (checksumMode, error) {
	out, err := m.complete(ctx, u, m.completed(part), part.CRC32C)
	if m.checksums == checksumWhole {
		switch {
		case err == nil && aws.ToString(out.ChecksumCRC32C) != *crcHeader(part.CRC32C):
			return checksumParts, nil
		case isUnsupported(err):
			m.checksums = checksumParts
			return m.checksums, p.createByUpload(ctx, m)
		}
	}
	if err != nil {
		return checksumNone, fmt.Errorf("complete a multipart upload: %w", p.store.classify(ctx, err))
	}
	return m.checksums, nil
}

// createByUpload creates the object at the upload's key by a new upload.
func (p prober) createByUpload(ctx context.Context, m multipart) error {
	u, err := m.start(ctx, p.keys.upload())
	if err != nil {
		return fmt.Errorf("start a multipart upload: %w", p.store.classify(ctx, err))
	}
	defer p.abort(ctx, u)
	part, err := m.putPart(ctx, u, 1, probeBody())
	if err != nil {
		return fmt.Errorf("write a part: %w", err)
	}
	if _, err := m.complete(ctx, u, m.completed(part), part.CRC32C); err != nil {
		return fmt.Errorf("complete a multipart upload: %w", p.store.classify(ctx, err))
	}
	return nil
}

// partChecksum reports whether the store accepts a part with a wrong checksum.
func (p prober) partChecksum(ctx context.Context, m multipart, u drivers.Upload) (accepted bool, err error) {
	other := probeBody()
	in := m.partInput(u, 1, probeBody())
	switch m.checksums {
	case checksumNone:
		return false, nil
	case checksumWhole, checksumParts:
		in.ChecksumCRC32C = crcHeader(other.CRC32C)
	case checksumSHA256:
		sum, err := sha256Of(other)
		if err != nil {
			return false, err
		}
		in.ChecksumSHA256 = &sum
	}
	_, err = p.store.client.UploadPart(ctx, in, p.store.payload)
	if accepted, err = p.wrongAccepted(ctx, err); err != nil {
		return false, fmt.Errorf("write a part with a wrong checksum, which must be refused as 400: %w", err)
	}
	return accepted, nil
}

// completeReplaces reports whether a Complete replaces the object at its key. A
// store may drop the upload when it refuses the Complete; Cloudflare R2 does.
// https://developers.cloudflare.com/r2/platform/release-notes/#2023-08-11
func (p prober) completeReplaces(ctx context.Context, m multipart, u drivers.Upload) (replaces bool, err error) {
	part, err := m.putPart(ctx, u, 1, probeBody())
	if err != nil {
		return false, fmt.Errorf("write a part: %w", err)
	}
	out, err := m.complete(ctx, u, m.completed(part), part.CRC32C)
	switch {
	case err == nil: // versitygw may report success without an effect
		existing, err := p.store.head(ctx, u.Key)
		if err != nil {
			return false, fmt.Errorf("read from the bucket: %w", p.store.classify(ctx, err))
		}
		return existing.Tag == tagOf(out.ETag), nil
	case isTaken(err), status(err) == http.StatusConflict:
		return false, nil
	default:
		return false, fmt.Errorf("complete a multipart upload at a key that is taken, which must be refused as 412: %w", p.store.classify(ctx, err))
	}
}

// abort aborts an upload of the probe.
func (p prober) abort(ctx context.Context, u drivers.Upload) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	_ = multipart{store: p.store}.abort(ctx, u)
}
