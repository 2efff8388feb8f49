# A bucket for berth on Amazon S3, with its lifecycle, the least permissions, and
# CloudFront as CDN. Permissions and lifetimes are those of deploy/s3.

terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.70"
    }
  }
}

data "aws_partition" "current" {}

locals {
  # The examples in deploy/s3, for this bucket.
  policy    = jsondecode(replace(replace(file("${path.module}/../../s3/policy.json"), "arn:aws:", "arn:${data.aws_partition.current.partition}:"), "BUCKET", var.bucket))
  lifecycle = jsondecode(file("${path.module}/../../s3/lifecycle.json"))

  kms_statements = var.kms_key_arn == null ? [] : [{
    Sid      = "Key"
    Effect   = "Allow"
    Action   = ["kms:GenerateDataKey", "kms:Decrypt"]
    Resource = var.kms_key_arn
  }]
}

resource "aws_s3_bucket" "blobs" {
  bucket = var.bucket
  tags   = var.tags

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_public_access_block" "blobs" {
  bucket                  = aws_s3_bucket.blobs.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "blobs" {
  bucket = aws_s3_bucket.blobs.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "blobs" {
  bucket = aws_s3_bucket.blobs.id

  rule {
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "blobs" {
  bucket = aws_s3_bucket.blobs.id

  rule {
    id     = local.lifecycle.Rules[0].ID
    status = "Enabled"

    filter {
      prefix = ""
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = local.lifecycle.Rules[0].AbortIncompleteMultipartUpload.DaysAfterInitiation
    }
  }

  rule {
    id     = local.lifecycle.Rules[1].ID
    status = "Enabled"

    filter {
      prefix = ""
    }

    noncurrent_version_expiration {
      noncurrent_days = local.lifecycle.Rules[1].NoncurrentVersionExpiration.NoncurrentDays
    }

    expiration {
      expired_object_delete_marker = true
    }
  }
}

resource "aws_s3_bucket_policy" "blobs" {
  bucket = aws_s3_bucket.blobs.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat([{
      Sid       = "OnlyTLS"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.blobs.arn, "${aws_s3_bucket.blobs.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
      [for distribution in aws_cloudfront_distribution.cdn : {
        Sid       = "CloudFrontReadsData"
        Effect    = "Allow"
        Principal = { Service = "cloudfront.amazonaws.com" }
        Action    = "s3:GetObject"
        Resource  = "${aws_s3_bucket.blobs.arn}/data/*"
        Condition = { StringEquals = { "AWS:SourceArn" = distribution.arn } }
    }])
  })

  depends_on = [aws_s3_bucket_public_access_block.blobs]
}

resource "aws_iam_policy" "berth" {
  name = "berth-${var.bucket}"
  tags = var.tags
  policy = jsonencode({
    Version   = local.policy.Version
    Statement = concat([for s in local.policy.Statement : s if s.Sid != "Settings" || var.check], local.kms_statements)
  })
}

resource "aws_iam_role" "berth" {
  count = var.eks == null ? 0 : 1
  name  = "berth-${var.bucket}"
  tags  = var.tags
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Federated = var.eks.oidc_provider_arn }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = { StringEquals = {
        "${var.eks.issuer}:aud" = "sts.amazonaws.com"
        "${var.eks.issuer}:sub" = "system:serviceaccount:${var.eks.namespace}:${var.eks.service_account}"
      } }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "berth" {
  count      = var.eks == null ? 0 : 1
  role       = aws_iam_role.berth[0].name
  policy_arn = aws_iam_policy.berth.arn
}
