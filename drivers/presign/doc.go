// Package presign contains what signers of URLs share: the store's clock, by which
// URLs expire, and the form of a host that clients send and signatures cover.
package presign
