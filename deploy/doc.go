// Package deploy has the files of this directory tested against the code: the
// permissions against the requests that the drivers send, the lifecycle rules
// against the lifetimes of uploads, and the CDN configurations against what must
// stay private. It has no code of its own.
package deploy
