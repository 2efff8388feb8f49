variable "bucket" {
  description = "Name of the bucket, which the module creates."
  type        = string
}

variable "kms_key_arn" {
  description = "KMS key of the bucket (SSE-KMS, with a bucket key). Amazon S3's own keys (SSE-S3) if null."
  type        = string
  default     = null
}

variable "eks" {
  description = "Cluster and service account that may assume the role of berth (IRSA). The ARN is that of the cluster's OIDC provider, and the issuer its URL without https://. Without it the module creates no role: attach the policy to a role of yours."
  type = object({
    oidc_provider_arn = string
    issuer            = string
    namespace         = string
    service_account   = string
  })
  default = null
}

variable "check" {
  description = "Whether berth may read the settings of the bucket, for berth check."
  type        = bool
  default     = true
}

variable "cdn_public_key" {
  description = "Public key, in PEM, of the private key that berth signs links with. Without it the module creates no CloudFront distribution."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
