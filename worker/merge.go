package worker

import (
	"encoding/json"
	"fmt"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"sluice"
)

// merge applies a JSON merge patch (RFC 7396) to v, and answers as such a patch what it changed. want says what a patch
// may be like.
func merge[T any](v *T, patch []byte, want string) (difference string, err error) {
	before, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("write what is to be patched: %w", err)
	}
	merged, err := jsonpatch.MergePatch(before, patch)
	if err != nil {
		return "", sluice.Refuse(sluice.BadRequest, "the patch can't be applied: %v; %s", err, want)
	}
	var after T
	if err := decode(merged, &after); err != nil {
		return "", sluice.Refuse(sluice.BadRequest, "%v; %s", err, want)
	}
	if merged, err = json.Marshal(after); err != nil {
		return "", fmt.Errorf("write what was patched: %w", err)
	}
	changed, err := jsonpatch.CreateMergePatch(before, merged)
	if err != nil {
		return "", fmt.Errorf("compare with what was before: %w", err)
	}
	*v = after
	return string(changed), nil
}

// maxTold is how many bytes of one change the log tells, and a dead letter of its error.
const maxTold = 1000

// bounded is what is told of a text.
func bounded(what string) string {
	if len(what) > maxTold {
		return strings.ToValidUTF8(what[:maxTold], "") + " …"
	}
	return what
}
