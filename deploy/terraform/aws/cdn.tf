# CloudFront serves links that berth has signed, and nothing but data/. See
# deploy/cdn/cloudfront.yaml for the reasons.

locals {
  cdn = var.cdn_public_key == null ? 0 : 1
}

resource "aws_cloudfront_public_key" "cdn" {
  count       = local.cdn
  name_prefix = "berth-"
  encoded_key = var.cdn_public_key

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_cloudfront_key_group" "cdn" {
  count = local.cdn
  name  = "berth-${var.bucket}"
  items = [aws_cloudfront_public_key.cdn[0].id]
}

resource "aws_cloudfront_origin_access_control" "cdn" {
  count                             = local.cdn
  name                              = "berth-${var.bucket}"
  origin_access_control_origin_type = "s3"
  signing_behavior                  = "always"
  signing_protocol                  = "sigv4"
}

# Answers requests for all paths except data/, so that they never reach the bucket.
resource "aws_cloudfront_function" "nothing" {
  count   = local.cdn
  name    = "berth-${replace(var.bucket, ".", "-")}-nothing"
  comment = "404 for everything except blobs"
  runtime = "cloudfront-js-2.0"
  publish = true
  code    = "function handler() { return {statusCode: 404, statusDescription: \"Not Found\"}; }"
}

resource "aws_cloudfront_distribution" "cdn" {
  count        = local.cdn
  enabled      = true
  http_version = "http2and3"
  comment      = "blobs of berth"
  tags         = var.tags

  origin {
    origin_id                = "bucket"
    domain_name              = aws_s3_bucket.blobs.bucket_regional_domain_name
    origin_access_control_id = aws_cloudfront_origin_access_control.cdn[0].id
  }

  ordered_cache_behavior {
    path_pattern           = "data/*"
    target_origin_id       = "bucket"
    trusted_key_groups     = [aws_cloudfront_key_group.cdn[0].id]
    viewer_protocol_policy = "https-only"
    allowed_methods        = ["GET", "HEAD"]
    cached_methods         = ["GET", "HEAD"]
    cache_policy_id        = "658327ea-f89d-4fab-a63d-7e88639e58f6" # Managed-CachingOptimized: no query string in the key
  }

  default_cache_behavior {
    target_origin_id       = "bucket"
    trusted_key_groups     = [aws_cloudfront_key_group.cdn[0].id]
    viewer_protocol_policy = "https-only"
    allowed_methods        = ["GET", "HEAD"]
    cached_methods         = ["GET", "HEAD"]
    cache_policy_id        = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad" # Managed-CachingDisabled

    function_association {
      event_type   = "viewer-request"
      function_arn = aws_cloudfront_function.nothing[0].arn
    }
  }

  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }

  viewer_certificate {
    cloudfront_default_certificate = true
  }
}
