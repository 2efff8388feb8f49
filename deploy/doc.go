// Package deploy contains examples for deploying berth. Its tests check them
// against the code: the permissions against the requests that the drivers send,
// the lifecycle rules against the lifetimes of uploads, and the CDN
// configurations against what must stay private.
package deploy
