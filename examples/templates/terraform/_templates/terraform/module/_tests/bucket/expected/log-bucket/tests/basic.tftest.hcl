mock_provider "aws" {}

run "plans" {
  command = plan

  variables {
    name = "example"
    token = "example"
  }
}
