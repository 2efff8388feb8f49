package config

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/cmd/berth/auth"
	"github.com/berthhq/berth/cmd/berth/policy"
	"github.com/berthhq/berth/redirect"
)

// Error is the error of an invalid configuration. Each problem is one line, which
// names the key.
type Error struct {
	Problems []string
}

func (e *Error) Error() string { return strings.Join(e.Problems, "\n") }

// Flags adds the flags that set keys. Their defaults only appear in the help text:
// [Load] ignores a flag that is not on the command line.
func Flags(flags *pflag.FlagSet) {
	for _, k := range keys(&Config{}) {
		if k.flag != "" {
			flags.String(k.flag, k.value.String(), k.help+" ("+k.name+")")
		}
	}
}

// Load returns the configuration from a YAML file (no file if the name is empty),
// the process's environment and the flags that [Flags] added. It returns an
// [*Error] if the configuration is invalid.
func Load(file string, flags *pflag.FlagSet) (*Config, error) {
	var given tree
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, &Error{[]string{"--config: " + err.Error()}}
		}
		if given, err = parseYAML(data); err != nil {
			return nil, &Error{[]string{fmt.Sprintf("%s: %v", file, err)}}
		}
	}
	return load(file, given, flags)
}

func load(file string, given tree, flags *pflag.FlagSet) (*Config, error) {
	c, err := fill(file, given, flags)
	if err != nil {
		return nil, err
	}
	if problems := c.check(); len(problems) > 0 {
		return nil, &Error{problems}
	}
	return c, nil
}

// fill returns the configuration with the values from all sources. The table
// defines the allowed keys and values.
func fill(file string, given tree, flags *pflag.FlagSet) (*Config, error) {
	c := &Config{}
	problems := c.makeEntries(given)
	c.table = keys(c)
	layers, err := c.findValues(file, given, flags)
	if err != nil {
		return nil, err
	}
	refused := c.setValues(layers)
	problems = slices.Concat(problems, unknownInFile(file, given, c.table), unknownInEnvironment(os.Environ(), c), refused, readSecrets(c.table))
	c.derive()
	if len(problems) > 0 {
		return nil, &Error{problems}
	}
	return c, nil
}

// findValues sets the origin of each key, and returns the values. viper selects
// the source that takes precedence.
func (c *Config) findValues(file string, given tree, flags *pflag.FlagSet) (*viper.Viper, error) {
	// No name contains this delimiter, so viper does not split names into paths. A
	// key can then have other keys below it.
	layers := viper.NewWithOptions(viper.KeyDelimiter("\n"))
	layers.AllowEmptyEnv(true)
	inFile := map[string]any{}
	for i := range c.table {
		k := &c.table[i]
		k.origin = "default"
		if leaf, ok := given.leaf(*k); ok {
			inFile[k.name] = leaf.text
			k.origin = fmt.Sprintf("%s:%d", file, leaf.line)
		}
		if err := layers.BindEnv(k.name, k.env()); err != nil {
			return nil, err
		}
		if _, ok := os.LookupEnv(k.env()); ok {
			k.origin = "environment " + k.env()
		}
		if f := flags.Lookup(k.flag); k.flag != "" && f != nil && f.Changed {
			if err := layers.BindPFlag(k.name, f); err != nil {
				return nil, err
			}
			k.origin = "flag --" + k.flag
		}
	}
	err := layers.MergeConfigMap(inFile)
	return layers, err
}

// setValues sets the fields of the keys that have a value, and returns the values
// that are not allowed.
func (c *Config) setValues(layers *viper.Viper) (refused []string) {
	for _, k := range c.table {
		if k.origin == "default" {
			continue
		}
		text := layers.GetString(k.name)
		if k.secret && text == redacted && layers.GetString(k.name+"_file") != "" {
			continue // the file is the output of `berth config`, which had read the secret
		}
		if k.value.set(text) {
			continue
		}
		switch {
		case k.secret:
			text = redacted
		case strings.ContainsAny(text, "?#@"): // a URL that may contain a secret
			text = redirect.Redacted(text)
		}
		refused = append(refused, fmt.Sprintf("%s: %q (%s): want %s", k.name, text, k.origin, k.value.wants()))
	}
	return refused
}

// derive sets the fields that follow from those of the table.
func (c *Config) derive() {
	c.Redirect.CDN = make(map[string]redirect.CDN)
	for name, cdn := range c.cdns {
		c.Redirect.CDN[name] = *cdn
	}
	data := c.Storage.ofData()
	data.S3.DataOnly = data != &c.Storage
	azure := data.Azure
	if data.Driver == "azure" && azure.SharedKey == "" && azure.ConnectionString == "" && azure.SAS == "" {
		// An identity signs with keys that Azure issues for a week, and the
		// driver fetches a new one every day.
		c.Redirect.MaxPresign = 6 * 24 * time.Hour
	}
}

// makeEntries adds the headers, CDNs, keys, issuers, rules and lists of tags that the file has
// to c, with empty fields, so that the table has keys for them.
func (c *Config) makeEntries(given tree) (problems []string) {
	valid := regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	c.cdns = make(map[string]*redirect.CDN)
	c.Storage.Data = &Storage{}
	c.Storage.S3.Headers, c.Storage.Data.S3.Headers = map[string]string{}, map[string]string{}
	for key := range given.leaves {
		if name, ok := strings.CutPrefix(key, "storage."+headersPrefix); ok {
			c.Storage.S3.Headers[name] = ""
		}
		if name, ok := strings.CutPrefix(key, "storage.data."+headersPrefix); ok {
			c.Storage.Data.S3.Headers[name] = ""
		}
	}
	mentioned := slices.AppendSeq(slices.Collect(maps.Keys(given.leaves)), maps.Keys(given.empty))
	slices.Sort(mentioned)
	for _, key := range mentioned {
		rest, ok := strings.CutPrefix(key, "redirect.cdn.")
		name, _, deeper := strings.Cut(rest, ".")
		_, empty := given.empty[key]
		switch {
		case !ok || !deeper && !empty || c.cdns[name] != nil:
		case !valid.MatchString(name):
			problems = append(problems, fmt.Sprintf("redirect.cdn: name %q: want a-z, then a-z, 0-9, and - between them", name))
		default:
			c.cdns[name] = &redirect.CDN{Keys: make([]redirect.Key, given.items["redirect.cdn."+name+".keys"])}
		}
	}
	c.Redirect.Rules = make([]redirect.Rule, given.items["redirect.rules"])
	c.Auth.OIDC = make([]auth.Provider, given.items["auth.oidc"])
	c.Auth.Policy.Rules = make([]policy.Rule, given.items["policy.rules"])
	c.Blobs.Manifests.ImmutableTags = make([]blobstore.ImmutableTags, given.items["manifests.immutable_tags"])
	return problems
}

// listOfMappings matches keys that must be lists of mappings, and keys below them,
// which a file can only have if it has something else there.
var listOfMappings = regexp.MustCompile(`^(auth\.oidc|manifests\.immutable_tags|policy\.rules|redirect\.rules|redirect\.cdn\.[^.]+\.keys)(\.|$)`)

// unknownInFile returns the names in the file that are not those of keys or
// sections.
func unknownInFile(file string, given tree, table []key) (problems []string) {
	var names []string
	for _, k := range table {
		names = append(names, k.name)
		if k.inMap != "" {
			names = append(names, k.inMap)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given.leaves)) {
		list := listOfMappings.FindStringSubmatch(name)
		below := slices.IndexFunc(names, func(key string) bool { return strings.HasPrefix(key, name+".") })
		switch {
		case slices.Contains(names, name):
		case below >= 0:
			problems = append(problems, fmt.Sprintf("%s:%d: %s: want keys and values below it, such as %s", file, given.leaves[name].line, name, names[below]))
		case list != nil:
			problems = append(problems, fmt.Sprintf("%s:%d: %s: want a list of keys and values", file, given.leaves[name].line, list[1]))
		default:
			problems = append(problems, fmt.Sprintf("%s:%d: unknown key %s%s", file, given.leaves[name].line, name, suggest(name, names)))
		}
	}
	problems = slices.Compact(problems)
	sections := slices.Concat(names, []string{"redirect.cdn.", "storage." + headersPrefix, "storage.data." + headersPrefix})
	for _, name := range slices.Sorted(maps.Keys(given.empty)) {
		isSection := func(key string) bool { return key == name || strings.HasPrefix(key, name+".") }
		if !slices.ContainsFunc(sections, isSection) && listOfMappings.FindString(name) != name {
			problems = append(problems, fmt.Sprintf("%s:%d: unknown key %s%s", file, given.empty[name], name, suggest(name, names)))
		}
	}
	return problems
}

// unknownInEnvironment returns the variables with berth's prefix that neither set
// a key nor hold a signing key of a CDN.
func unknownInEnvironment(environ []string, c *Config) (problems []string) {
	var names []string
	for _, k := range c.table {
		names = append(names, k.env())
	}
	for _, name := range slices.Sorted(maps.Keys(c.cdns)) {
		for _, k := range c.cdns[name].Keys {
			if k.Env != "" {
				names = append(names, k.Env)
			}
		}
	}
	for _, setting := range slices.Sorted(slices.Values(environ)) {
		name, _, _ := strings.Cut(setting, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(names, name) || foreign.MatchString(name) {
			continue
		}
		hint := suggest(name, names)
		if hint == "" && inList.MatchString(name) {
			hint = "; a variable can only set a key of an entry that the file has"
		}
		problems = append(problems, fmt.Sprintf("environment %s: unknown key%s", name, hint))
	}
	return problems
}

// inList matches variables for keys in lists and maps that only the file can define.
var inList = regexp.MustCompile(`^BERTH_(AUTH_OIDC|MANIFESTS_IMMUTABLE_TAGS|POLICY_RULES|REDIRECT_(CDN|RULES)|STORAGE_S3_HEADERS)_`)

// foreign matches variables with the prefix BERTH_ that are not for berth.
// Kubernetes sets variables in every container for every Service in its
// namespace, and a Service called berth, or berth-something, is likely
// (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
// BERTH_TEST_ is the prefix of the test suite.
var foreign = regexp.MustCompile(`^BERTH_(TEST_.*|(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?))$`)
