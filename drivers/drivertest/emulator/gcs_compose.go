package emulator

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/berthhq/berth/drivers"
)

// composeRequest is https://cloud.google.com/storage/docs/json_api/v1/objects/compose.
type composeRequest struct {
	SourceObjects []struct {
		Name                string `json:"name"`
		ObjectPreconditions struct {
			IfGenerationMatch *int64 `json:"ifGenerationMatch,string"`
		} `json:"objectPreconditions"`
	} `json:"sourceObjects"`
	DeleteSourceObjects bool `json:"deleteSourceObjects"`
	Destination         struct {
		CRC32C string `json:"crc32c"`
	} `json:"destination"`
}

func (s *strictGCS) serveCompose(w http.ResponseWriter, r *http.Request, bucket, name string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		gcsError(w, http.StatusBadRequest, "badRequest", err.Error())
		return
	}
	var req composeRequest
	if err := json.Unmarshal(body, &req); err != nil || len(req.SourceObjects) == 0 || len(req.SourceObjects) > 32 {
		gcsError(w, http.StatusBadRequest, "invalid", fmt.Sprintf("%d sources, %v", len(req.SourceObjects), err))
		return
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if !s.holds(w, bucket, name, r.URL.Query().Get("ifGenerationMatch")) || !s.canCompose(w, bucket, &req) {
		return
	}
	if !s.keep(w, r, bucket, body) || !req.DeleteSourceObjects {
		return
	}
	for _, source := range req.SourceObjects {
		if source.Name == name {
			continue
		}
		if err := s.remove(r.Context(), bucket, source.Name); err != nil {
			return // the sources stay, as can happen with GCS
		}
	}
}

// canCompose reports whether the sources exist with the generations of the
// request, have one storage class, and have the checksum of the request together.
// Otherwise it sends an error.
func (s *strictGCS) canCompose(w http.ResponseWriter, bucket string, req *composeRequest) bool {
	var crc uint32
	var class string
	for i, source := range req.SourceObjects {
		o, ok := s.object(bucket, source.Name)
		switch want := source.ObjectPreconditions.IfGenerationMatch; {
		case !ok:
			noObject(w, bucket, source.Name)
			return false
		case want != nil && *want != o.generation:
			unmet(w)
			return false
		case i > 0 && o.class != class:
			gcsError(w, http.StatusBadRequest, "invalid", "The storage classes of the source objects differ.")
			return false
		}
		crc, class = drivers.CombineCRC32C(crc, o.crc32c, o.size), o.class
	}
	sum := drivers.EncodeCRC32C(crc)
	if want := req.Destination.CRC32C; want != "" && want != sum {
		gcsError(w, http.StatusBadRequest, "invalid", "Provided CRC32C "+want+" doesn't match calculated CRC32C "+sum)
		return false
	}
	return true
}
