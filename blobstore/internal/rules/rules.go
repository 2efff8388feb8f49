// Package rules names the rules of the collector, so that tests can break each of them on
// purpose and check that the simulations find it.
package rules

// Broken is the rules that a collector breaks. The zero value breaks none. Only tests
// set a field.
type Broken struct {
	AgeByList           bool // the age of a record is that in the listing, not that of the read which decides
	RemoveBlindly       bool // an object is removed in any version
	NoDeadList          bool // the data of a record is deleted with the record
	RemoveAtOnce        bool // what is not named is removed without being condemned first
	CollectAlways       bool // links are removed in repositories of blobs
	CollectTooEarly     bool // any manifest that was read allows links to be removed
	OnlyNamedName       bool // a manifest that nothing names refers to nothing
	SubjectNamesParent  bool // a subject names an index that has it as a child
	OtherDigestsUnnamed bool // digests of other algorithms name nothing
	MarkersWithoutLinks bool // a marker is removed although its repository has links
	TagAfterManifest    bool // a tag is read after the manifest that it names
	EntryAfterManifest  bool // an entry is read after its manifest
	EntryOfAnyAge       bool // an entry is removed before it is a grace old
	OldReads            bool // a write relies on a read of any age
	KeepNamedMarks      bool // what is named and condemned stays condemned
	DeadAtOnce          bool // data is deleted as soon as it is in the dead list
	IgnoreLiveRecord    bool // data is deleted although a live record names it
	IgnoreLinks         bool // data is deleted although a link names it
	UnlistedData        bool // the data of a reaped session does not enter the dead list
	WrongStart          bool // a run starts a day late
}
