package s3

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
)

// filesPause is the minimum time between checks of the shared files.
const filesPause = 5 * time.Second

// sharedFiles are the files of the SDK's shared configuration, with profiles
// and credentials. The zero value has no files.
type sharedFiles struct {
	names []string

	mu   sync.Mutex
	next time.Time // when to check again
	seen string    // the stamp at the last check
	used string    // the stamp at the last read
}

// use records stamp as that of the last read.
func (f *sharedFiles) use(stamp string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used, f.seen = stamp, stamp
}

// changed reports whether the files have changed since the last read.
func (f *sharedFiles) changed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.names) == 0 {
		return false
	}
	if now := time.Now(); !now.Before(f.next) {
		f.seen, f.next = f.stamp(), now.Add(filesPause)
	}
	return f.seen != f.used
}

// stamp returns a string that identifies the current contents of the files by
// their times and sizes.
func (f *sharedFiles) stamp() string {
	var s strings.Builder
	for _, name := range f.names {
		if info, err := os.Stat(name); err == nil { // follows links, by which Kubernetes replaces a secret
			fmt.Fprintf(&s, "%d %d", info.ModTime().UnixNano(), info.Size())
		}
		s.WriteByte(';')
	}
	return s.String()
}

// sharedNames returns the files that the SDK reads in this environment.
func sharedNames() ([]string, error) {
	env, err := config.NewEnvConfig()
	if err != nil {
		return nil, err
	}
	return []string{
		cmp.Or(env.SharedConfigFile, config.DefaultSharedConfigFilename()),
		cmp.Or(env.SharedCredentialsFile, config.DefaultSharedCredentialsFilename()),
	}, nil
}
