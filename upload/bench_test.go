package upload

import (
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	membucket "github.com/berthhq/berth/drivers/memory"
)

// BenchmarkPatch measures a PATCH of 32 parts, to a store that takes parts and to
// one that takes streams. The store drops the bytes.
func BenchmarkPatch(b *testing.B) {
	for name, habits := range map[string]membucket.Habits{"S3": smallS3(), "directory": streaming()} {
		b.Run(name, func(b *testing.B) {
			m := replica(b, &membucket.Store{Habits: habits, Discard: true}, nil)
			data := randomBytes(130, 32*128*kiB)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				patch(b, m, m.Start("r", digest.SHA256), data)
			}
		})
	}
}

// BenchmarkSmallPatches measures 100 PATCHes of 300 bytes, and the PUT that commits
// them.
func BenchmarkSmallPatches(b *testing.B) {
	m := replica(b, &membucket.Store{Habits: smallS3()}, nil)
	data := randomBytes(131, 100*300)
	b.ReportAllocs()
	for b.Loop() {
		tok := m.Start("r", digest.SHA256)
		for piece := range slices.Chunk(data, 300) {
			tok = patch(b, m, tok, piece)
		}
		if _, err := commit(b.Context(), m, tok, nil, data); err != nil {
			b.Fatal(err)
		}
	}
}
