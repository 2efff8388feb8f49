package deploy_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/redirect"
)

// TestCDN of the system tests runs nginx with its example. The other CDNs cannot
// run here, so these tests read their examples. Each must serve data/ only.

// TestCloudFront checks that only requests for data/ with a signature reach the
// bucket, and that the bucket allows CloudFront nothing else.
func TestCloudFront(t *testing.T) {
	t.Parallel()
	type behavior struct {
		PathPattern          string
		TrustedKeyGroups     []string
		AllowedMethods       []string
		ViewerProtocolPolicy string
		CachePolicyID        string
		FunctionAssociations []struct{ EventType, FunctionARN string }
	}
	var template struct {
		Resources struct {
			Nothing struct {
				Properties struct{ FunctionCode string }
			}
			Distribution struct {
				Properties struct {
					DistributionConfig struct {
						CacheBehaviors       []behavior
						DefaultCacheBehavior behavior
					}
				}
			}
			Policy struct {
				Properties struct {
					PolicyDocument struct{ Statement []statement }
				}
			}
		}
	}
	readSome(t, "cdn/cloudfront.yaml", &template)

	config := template.Resources.Distribution.Properties.DistributionConfig
	if len(config.CacheBehaviors) != 1 || config.CacheBehaviors[0].PathPattern != "data/*" {
		t.Fatalf("cache behaviors = %+v, want one, for data/*", config.CacheBehaviors)
	}
	for _, b := range append(config.CacheBehaviors, config.DefaultCacheBehavior) {
		if !slices.Equal(b.TrustedKeyGroups, []string{"Keys"}) || !slices.Equal(b.AllowedMethods, []string{"GET", "HEAD"}) || b.ViewerProtocolPolicy != "https-only" {
			t.Errorf("behavior %+v, want reads over HTTPS with a signature of the key group", b)
		}
	}
	functions := config.DefaultCacheBehavior.FunctionAssociations
	if len(functions) != 1 || functions[0].EventType != "viewer-request" || functions[0].FunctionARN != "Nothing.FunctionMetadata.FunctionARN" {
		t.Errorf("functions of all other paths = %+v, want the one that answers 404", functions)
	}
	const nothing = `function handler() { return {statusCode: 404, statusDescription: "Not Found"}; }`
	if code := strings.TrimSpace(template.Resources.Nothing.Properties.FunctionCode); code != nothing {
		t.Errorf("code of the function = %s, want %s", code, nothing)
	}
	// Two links of one blob differ in their queries, and must find the same cached
	// bytes.
	// https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/using-managed-cache-policies.html
	const cachingOptimized = "658327ea-f89d-4fab-a63d-7e88639e58f6"
	if id := config.CacheBehaviors[0].CachePolicyID; id != cachingOptimized {
		t.Errorf("cache policy of blobs = %s, want %s, whose key excludes queries", id, cachingOptimized)
	}
	onlyReads(t, template.Resources.Policy.Properties.PolicyDocument.Statement,
		"arn:${AWS::Partition}:s3:::${Bucket}/data/*", "StringEquals", "AWS:SourceArn")
}

// statement is a statement of a bucket's policy.
type statement struct {
	Sid, Effect, Action, Resource string
	Principal                     any
	Condition                     map[string]map[string]any
}

// onlyReads fails the test unless the statements only allow reading these objects,
// under a condition with this operator and key.
func onlyReads(t *testing.T, statements []statement, resource, operator, key string) {
	t.Helper()
	if len(statements) != 1 {
		t.Fatalf("the bucket's policy has %d statements, want 1", len(statements))
	}
	s := statements[0]
	if s.Effect != "Allow" || s.Action != "s3:GetObject" || s.Resource != resource {
		t.Errorf("the bucket's policy: %s %s on %s, want Allow s3:GetObject on %s", s.Effect, s.Action, s.Resource, resource)
	}
	if s.Condition[operator][key] == nil {
		t.Errorf("condition of the bucket's policy = %v, want one on %s", s.Condition, key)
	}
}

// TestNginxOrigin checks that the bucket allows the address of nginx to read data/,
// and nothing else.
func TestNginxOrigin(t *testing.T) {
	t.Parallel()
	var policy struct {
		Version   string
		Statement []statement
	}
	read(t, "cdn/nginx-origin.json", &policy)
	onlyReads(t, policy.Statement, "arn:aws:s3:::BUCKET/data/*", "IpAddress", "aws:SourceIp")
	if got := fmt.Sprint(policy.Statement[0].Condition["IpAddress"]["aws:SourceIp"]); got != "[203.0.113.7/32]" {
		t.Errorf("allowed addresses = %s, want one reserved for documentation", got)
	}
}

// TestCloudCDN checks that paths outside data/ go to an empty bucket, and that IAM
// lets Cloud CDN read data/ only.
func TestCloudCDN(t *testing.T) {
	t.Parallel()
	const bucket = "https://www.googleapis.com/compute/v1/projects/PROJECT/global/backendBuckets/"
	type pathRule struct {
		Paths   []string
		Service string
	}
	type matcher struct {
		Name, DefaultService string
		PathRules            []pathRule
	}
	var urls struct {
		Name, DefaultService string
		HostRules            []struct {
			Hosts       []string
			PathMatcher string
		}
		PathMatchers []matcher
	}
	read(t, "cdn/cloudcdn-urlmap.yaml", &urls)
	want := []matcher{{"blobs", bucket + "nothing", []pathRule{{[]string{"/data/*"}, bucket + "berth"}}}}
	if diff := cmp.Diff(want, urls.PathMatchers); diff != "" || urls.DefaultService != bucket+"nothing" {
		t.Errorf("default service of the URL map = %s, want %s; path matchers (-want +got):\n%s", urls.DefaultService, bucket+"nothing", diff)
	}

	var condition struct{ Title, Description, Expression string }
	read(t, "cdn/cloudcdn-condition.yaml", &condition)
	const expression = `resource.type == "storage.googleapis.com/Object" && resource.name.startsWith("projects/_/buckets/BUCKET/objects/data/")`
	if condition.Expression != expression {
		t.Errorf("condition = %s, want %s", condition.Expression, expression)
	}
}

// TestFrontDoor checks that the only route is to data/, and that the cache's key
// is the whole URL, because only the store checks signatures.
func TestFrontDoor(t *testing.T) {
	t.Parallel()
	var template struct {
		Resources []struct {
			Type       string
			Properties struct {
				PatternsToMatch    []string
				SupportedProtocols []string
				CacheConfiguration struct{ QueryStringCachingBehavior string }
			}
		}
	}
	readSome(t, "cdn/frontdoor.json", &template)
	routes := 0
	for _, r := range template.Resources {
		if r.Type != "Microsoft.Cdn/profiles/afdEndpoints/routes" {
			continue
		}
		routes++
		p := r.Properties
		if want := []string{"[concat('/', parameters('container'), '/data/*')]"}; !slices.Equal(p.PatternsToMatch, want) {
			t.Errorf("patterns of the route = %q, want %q", p.PatternsToMatch, want)
		}
		if p.CacheConfiguration.QueryStringCachingBehavior != "UseQueryString" || !slices.Equal(p.SupportedProtocols, []string{"Https"}) {
			t.Errorf("route = %+v, want HTTPS, and queries in the cache's key", p)
		}
	}
	if routes != 1 {
		t.Errorf("found %d routes, want 1", routes)
	}
}

// TestCloudflare checks that requests outside data/ and requests without a valid
// token are blocked, and that tokens are valid for as long as berth's links.
func TestCloudflare(t *testing.T) {
	t.Parallel()
	var rules struct {
		Rules []struct{ Description, Expression, Action string }
	}
	read(t, "cdn/cloudflare.json", &rules)
	// Clients may write the host in upper case.
	const host = `starts_with(lower(http.host), "cdn.example.com") and `
	want := []*regexp.Regexp{
		regexp.MustCompile(`^` + regexp.QuoteMeta(host+`(not starts_with(http.request.uri.path, "/data/") or `+
			`http.request.uri.path contains ".." or http.request.uri.path contains "%")`) + `$`),
		regexp.MustCompile(`^` + regexp.QuoteMeta(host+`not is_timed_hmac_valid_v0("KEY", http.request.uri, `) + `(\d+)` +
			regexp.QuoteMeta(fmt.Sprintf(`, http.request.timestamp.sec, %d)`, len("?verify="))) + `$`),
	}
	if len(rules.Rules) != len(want) {
		t.Fatalf("found %d rules, want %d", len(rules.Rules), len(want))
	}
	for i, r := range rules.Rules {
		if !want[i].MatchString(r.Expression) || r.Action != "block" {
			t.Errorf("rule %d: %s %s, want block %s", i, r.Action, r.Expression, want[i])
		}
	}
	lifetime := want[1].FindStringSubmatch(rules.Rules[1].Expression)
	const byDefault = redirect.DefaultExpiry + redirect.DefaultWindow
	if len(lifetime) != 2 || lifetime[1] != fmt.Sprint(int(byDefault/time.Second)) {
		t.Errorf("tokens are valid for %q seconds, want %v, berth's default", lifetime, byDefault)
	}
}
