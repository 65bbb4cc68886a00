"""A package"""

NAME = "my-org-data-tools"
