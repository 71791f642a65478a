//go:build tools

// Package tools names Helm; scripts/helm builds it for the lane that installs the charts.
package tools

import _ "helm.sh/helm/v4/cmd/helm"
