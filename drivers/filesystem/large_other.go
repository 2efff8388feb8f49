//go:build !linux

package filesystem

// largeFile is not needed: file offsets have 64 bits everywhere.
const largeFile = 0
