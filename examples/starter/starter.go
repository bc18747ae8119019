// Package starter holds the folder that `writ init` makes and the demo runs on.
package starter

import "embed"

// Files are writ.yaml, catalog/ and policy/.
//
//go:embed writ.yaml catalog policy
var Files embed.FS

// Issuer is the identity provider that the files name: the one thing a new installation must replace.
const Issuer = "https://idp.example.com"
