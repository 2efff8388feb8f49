package ocihttp

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/activity"
)

// routeNames has the name of each action's group of URLs, for logs and metrics. The
// method tells the actions of a group apart.
var routeNames = map[action]string{
	actVersion:        "version",
	actGetBlob:        "blob",
	actHeadBlob:       "blob",
	actDeleteBlob:     "blob",
	actStartUpload:    "uploads",
	actAppendUpload:   "upload",
	actFinishUpload:   "upload",
	actUploadStatus:   "upload",
	actCancelUpload:   "upload",
	actGetManifest:    "manifest",
	actHeadManifest:   "manifest",
	actPutManifest:    "manifest",
	actDeleteManifest: "manifest",
	actListTags:       "tags",
	actListReferrers:  "referrers",
	actCatalog:        "catalog",
}

// describe records what the request is about. A request that is not well-formed has no
// more than a route.
func (r request) describe(a *activity.Request) {
	dgst := r.digest
	if dgst == "" {
		dgst = r.mount
	}
	tag := r.tag
	if tag == "" && len(r.tags) == 1 {
		tag = r.tags[0]
	}
	a.Describe(routeNames[r.action], r.name.Name(), dgst.String(), tag)
}

// blobEvent returns an event about a blob. The client named it by dgst.
func blobEvent(action activity.Action, req request, dgst digest.Digest, desc blobstore.Descriptor) activity.Event {
	e := activity.Event{Action: action, Repository: req.name.Name(), Digest: dgst.String(), MediaType: desc.MediaType, Size: desc.Size}
	if action == activity.Mount {
		e.From = req.from.Name()
	}
	return e
}

// reportPush adds the events of a push of a manifest and of the tags that it has set.
func reportPush(ctx context.Context, req request, desc blobstore.ManifestDescriptor, tags []string) {
	e := activity.Event{Action: activity.Push, Manifest: true, Repository: req.name.Name(),
		Digest: desc.Digest.String(), MediaType: desc.MediaType, Size: desc.Size}
	activity.Of(ctx).Add(e)
	for _, tag := range tags {
		e.Action, e.Tag = activity.Tag, tag
		activity.Of(ctx).Add(e)
	}
}
