package ocihttp

import "github.com/berthhq/berth/blobstore/activity"

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
	digest := r.digest
	if digest == "" {
		digest = r.mount
	}
	tag := r.tag
	if tag == "" && len(r.tags) == 1 {
		tag = r.tags[0]
	}
	a.Describe(routeNames[r.action], r.name.Name(), digest.String(), tag)
}
