variable "name" {
  type        = string
  description = "Name of the bucket | the \"log\" one"
}

variable "force_destroy" {
  type        = bool
  description = "Whether a bucket with content is destroyed"
  default     = false
}

variable "prefix" {
  type        = string
  description = "Not an expression"
  default     = "$${literal}/%%{x}"
}

variable "tags" {
  type        = map(string)
  description = ""
  default     = {"team":"logs"}
}

variable "token" {
  type        = string
  description = "For the shipper"
  sensitive   = true
}
