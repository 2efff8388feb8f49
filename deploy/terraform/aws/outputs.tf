output "bucket" {
  description = "storage.s3.bucket"
  value       = aws_s3_bucket.blobs.id
}

output "policy_arn" {
  description = "Policy with the permissions of berth."
  value       = aws_iam_policy.berth.arn
}

output "role_arn" {
  description = "Role of berth on EKS, for the annotation eks.amazonaws.com/role-arn."
  value       = one(aws_iam_role.berth[*].arn)
}

output "cdn_base_url" {
  description = "redirect.cdn.<name>.base_url"
  value       = one([for d in aws_cloudfront_distribution.cdn : "https://${d.domain_name}"])
}

output "cdn_key_id" {
  description = "redirect.cdn.<name>.keys[0].id"
  value       = one(aws_cloudfront_public_key.cdn[*].id)
}
