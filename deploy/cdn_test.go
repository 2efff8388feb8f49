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

// What nginx is configured to do it is made to do, by TestCDN in cmd/berth. The
// other CDNs can't be had here. Their examples are read, and each must let
// nothing through but data/.

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
		t.Fatalf("the behaviours are %+v, want one, for data/*", config.CacheBehaviors)
	}
	for _, b := range append(config.CacheBehaviors, config.DefaultCacheBehavior) {
		if !slices.Equal(b.TrustedKeyGroups, []string{"Keys"}) || !slices.Equal(b.AllowedMethods, []string{"GET", "HEAD"}) || b.ViewerProtocolPolicy != "https-only" {
			t.Errorf("behaviour %+v: want reads by HTTPS, with a signature of the key group", b)
		}
	}
	functions := config.DefaultCacheBehavior.FunctionAssociations
	if len(functions) != 1 || functions[0].EventType != "viewer-request" || functions[0].FunctionARN != "Nothing.FunctionMetadata.FunctionARN" {
		t.Errorf("all other paths go through %+v, want the function that answers 404 itself", functions)
	}
	const nothing = `function handler() { return {statusCode: 404, statusDescription: "Not Found"}; }`
	if code := strings.TrimSpace(template.Resources.Nothing.Properties.FunctionCode); code != nothing {
		t.Errorf("the function is %s, want %s", code, nothing)
	}
	// Links differ from time to time, and what is cached must be found by each.
	// https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/using-managed-cache-policies.html
	const cachingOptimized = "658327ea-f89d-4fab-a63d-7e88639e58f6"
	if id := config.CacheBehaviors[0].CachePolicyID; id != cachingOptimized {
		t.Errorf("the cache policy of blobs is %s, want %s, which leaves queries out of the key", id, cachingOptimized)
	}
	onlyReads(t, template.Resources.Policy.Properties.PolicyDocument.Statement,
		"arn:${AWS::Partition}:s3:::${Bucket}/data/*", "StringEquals", "AWS:SourceArn")
}

// statement is one of a bucket's policy.
type statement struct {
	Sid, Effect, Action, Resource string
	Principal                     any
	Condition                     map[string]map[string]any
}

// onlyReads fails the test unless the statements allow just to read these
// objects, under this condition.
func onlyReads(t *testing.T, statements []statement, resource, operator, key string) {
	t.Helper()
	if len(statements) != 1 {
		t.Fatalf("the bucket's policy has %d statements, want 1", len(statements))
	}
	s := statements[0]
	if s.Effect != "Allow" || s.Action != "s3:GetObject" || s.Resource != resource {
		t.Errorf("the bucket's policy is to %s %s on %s, want to Allow s3:GetObject on %s", s.Effect, s.Action, s.Resource, resource)
	}
	if s.Condition[operator][key] == nil {
		t.Errorf("the bucket lets in whoever meets %v, want a condition on %s", s.Condition, key)
	}
}

func TestNginxOrigin(t *testing.T) {
	t.Parallel()
	var policy struct {
		Version   string
		Statement []statement
	}
	read(t, "cdn/nginx-origin.json", &policy)
	onlyReads(t, policy.Statement, "arn:aws:s3:::BUCKET/data/*", "IpAddress", "aws:SourceIp")
	if got := fmt.Sprint(policy.Statement[0].Condition["IpAddress"]["aws:SourceIp"]); got != "[203.0.113.7/32]" {
		t.Errorf("the bucket lets in %s, want one address, of the documentation's", got)
	}
}

// TestCloudCDN: a path that is not data/ goes to a bucket with nothing in it,
// and IAM gives Cloud CDN nothing else.
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
		t.Errorf("by default the URL map goes to %s, and by path (-want +got):\n%s", urls.DefaultService, diff)
	}

	var condition struct{ Title, Description, Expression string }
	read(t, "cdn/cloudcdn-condition.yaml", &condition)
	const expression = `resource.type == "storage.googleapis.com/Object" && resource.name.startsWith("projects/_/buckets/BUCKET/objects/data/")`
	if condition.Expression != expression {
		t.Errorf("the condition is %s, want %s", condition.Expression, expression)
	}
}

// TestFrontDoor: there is one route, and it is to data/. What is cached is kept
// by its whole URL, for the store alone looks at signatures.
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
			t.Errorf("the route matches %q, want %q", p.PatternsToMatch, want)
		}
		if p.CacheConfiguration.QueryStringCachingBehavior != "UseQueryString" || !slices.Equal(p.SupportedProtocols, []string{"Https"}) {
			t.Errorf("the route is %+v, want HTTPS, and the query in the cache's key", p)
		}
	}
	if routes != 1 {
		t.Errorf("there are %d routes, want 1", routes)
	}
}

// TestCloudflare: what is not under data/ is blocked before anything else is
// looked at, and so is what has no token; tokens live as long as berth's.
func TestCloudflare(t *testing.T) {
	t.Parallel()
	var rules struct {
		Rules []struct{ Description, Expression, Action string }
	}
	read(t, "cdn/cloudflare.json", &rules)
	// The host is what clients write: in capitals it must not be another.
	const host = `starts_with(lower(http.host), "cdn.example.com") and `
	want := []*regexp.Regexp{
		regexp.MustCompile(`^` + regexp.QuoteMeta(host+`(not starts_with(http.request.uri.path, "/data/") or `+
			`http.request.uri.path contains ".." or http.request.uri.path contains "%")`) + `$`),
		regexp.MustCompile(`^` + regexp.QuoteMeta(host+`not is_timed_hmac_valid_v0("KEY", http.request.uri, `) + `(\d+)` +
			regexp.QuoteMeta(fmt.Sprintf(`, http.request.timestamp.sec, %d)`, len("?verify="))) + `$`),
	}
	if len(rules.Rules) != len(want) {
		t.Fatalf("there are %d rules, want %d", len(rules.Rules), len(want))
	}
	for i, r := range rules.Rules {
		if !want[i].MatchString(r.Expression) || r.Action != "block" {
			t.Errorf("rule %d is to %s %s, want to block %s", i, r.Action, r.Expression, want[i])
		}
	}
	lifetime := want[1].FindStringSubmatch(rules.Rules[1].Expression)
	const byDefault = redirect.DefaultExpiry + redirect.DefaultWindow
	if len(lifetime) != 2 || lifetime[1] != fmt.Sprint(int(byDefault/time.Second)) {
		t.Errorf("tokens live for %q seconds, want the %v of berth's defaults", lifetime, byDefault)
	}
}
