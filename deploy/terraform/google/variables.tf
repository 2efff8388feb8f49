variable "project" {
  description = "Project of the bucket and of the service account."
  type        = string
}

variable "bucket" {
  description = "Name of the bucket, which the module creates."
  type        = string
}

variable "location" {
  description = "Location of the bucket, such as EUROPE-WEST3."
  type        = string
}

variable "name" {
  description = "Name of the service account, and the start of the names of the CDN's resources."
  type        = string
  default     = "berth"
}

variable "kms_key" {
  description = "Default Cloud KMS key of the bucket. Its service agent needs the role on the key; see deploy/README.md."
  type        = string
  default     = null
}

variable "gke" {
  description = "Kubernetes service account that may use the service account of berth (workload identity)."
  type = object({
    namespace       = string
    service_account = string
  })
  default = null
}

variable "check" {
  description = "Whether berth may read the settings of the bucket, for berth check."
  type        = bool
  default     = true
}

variable "cdn" {
  description = "Host name of Cloud CDN for blobs. Without it the module creates no CDN."
  type        = object({ host = string })
  default     = null
}

variable "cdn_key" {
  description = "Key that berth signs links with: 16 random bytes in base64url. It is in the state of Terraform, so protect that."
  type        = string
  default     = null
  sensitive   = true
}
