variable "resource_group" {
  description = "Existing resource group of all resources."
  type        = string
}

variable "location" {
  description = "Region of the storage account and the identity."
  type        = string
}

variable "account" {
  description = "Name of the storage account, which the module creates: 3 to 24 lower-case letters and digits."
  type        = string
}

variable "container" {
  description = "Name of the container, which the module creates."
  type        = string
  default     = "blobs"
}

variable "replication" {
  description = "Replication of the storage account: LRS, ZRS, GRS or GZRS."
  type        = string
  default     = "ZRS"
}

variable "aks" {
  description = "Cluster and service account that may use the identity of berth (workload identity). The issuer is the cluster's OIDC issuer URL."
  type = object({
    issuer          = string
    namespace       = string
    service_account = string
  })
  default = null
}

variable "check" {
  description = "Whether berth may read the settings of the blob service, for berth check."
  type        = bool
  default     = true
}

variable "cdn" {
  description = "Whether to create Azure Front Door as CDN for blobs."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of all resources that have tags."
  type        = map(string)
  default     = {}
}
