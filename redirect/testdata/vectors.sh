#!/bin/sh
# Signs one URL in every form with openssl, and with nothing of this package.
# Its output is vectors.txt:
#
#	sh vectors.sh >vectors.txt
#
# The keys beside it were made for these tests, with
#
#	openssl genrsa -traditional -out rsa.pem 2048
#	openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa-next.pem
#	openssl ecparam -name prime256v1 -genkey -out ec.pem
#	openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec-next.pem
#	openssl genpkey -algorithm ed25519 -out ed25519.pem
#	openssl genpkey -algorithm ed25519 -out ed25519-next.pem
#
# openssl draws the nonces of ECDSA, so those lines differ from run to run.
set -eu
cd "$(dirname "$0")"

path=/berth/data/sha256/9f/9f86d081884c7d65/5d41402abc4b2a76b9719d911017c592
url=https://cdn.example.net$path
issued=1772366400
expires=1772368200

aws64() { openssl base64 -A | tr '+=/' '-_~'; }
url64() { openssl base64 -A | tr '+/' '-_'; }
raw64() { url64 | tr -d =; }

# cloudfront KEY HASH: sign the policy on standard input.
cloudfront() { openssl dgst "-$2" -sign "$1" | aws64; }
policy() { printf '{"Statement":[{"Resource":"%s","Condition":{"DateLessThan":{"AWS:EpochTime":%s}}}]}' "$1" $expires; }
for key in rsa ec; do
	for hash in sha1 sha256; do
		suffix=
		test $hash = sha1 || suffix='&Hash-Algorithm=SHA256'
		echo "cloudfront-$key-$hash-canned $url?Expires=$expires&Signature=$(policy $url | cloudfront $key.pem $hash)&Key-Pair-Id=K2JCJMDEHXQW5F$suffix"
		echo "cloudfront-$key-$hash-custom $url?Policy=$(policy "$url*" | aws64)&Signature=$(policy "$url*" | cloudfront $key.pem $hash)&Key-Pair-Id=K2JCJMDEHXQW5F$suffix"
	done
done

query="Expires=$expires&KeyName=my-key"
sha1mac() { openssl dgst -sha1 -mac HMAC -macopt hexkey:9d9b51a2174d17d9b770a336e0870ae3 -binary | url64; }
echo "cloudcdn-url $url?$query&Signature=$(printf %s "$url?$query" | sha1mac)"
prefixed="URLPrefix=$(printf %s "$url" | url64)&$query"
echo "cloudcdn-prefix $url?$prefixed&Signature=$(printf %s "$prefixed" | sha1mac)"

ed25519() {
	message=$(mktemp)
	cat >"$message"
	openssl pkeyutl -sign -rawin -inkey ed25519.pem -in "$message" | raw64
	rm "$message"
}
echo "mediacdn-url $url?$query&Signature=$(printf %s "$url?$query" | ed25519)"
prefixed="URLPrefix=$(printf %s "$url" | raw64)&$query"
echo "mediacdn-prefix $url?$prefixed&Signature=$(printf %s "$prefixed" | ed25519)"

mac=$(printf %s "$path$issued" | openssl dgst -sha256 -hmac mysecrettoken -binary | openssl base64 -A | sed 's/+/%2B/g; s,/,%2F,g; s/=/%3D/g')
echo "cloudflare $url?verify=$issued-$mac"

fields="exp=$expires~acl=$path"
mac=$(printf %s "$fields" | openssl dgst -sha256 -mac HMAC -macopt hexkey:52a152a152a152a152a152a152a1 -r | cut -d' ' -f1)
echo "akamai $url?__token__=$fields~hmac=$mac"

echo "nginx $url?md5=$(printf %s "$expires$path secret" | openssl md5 -binary | raw64)&expires=$expires"
