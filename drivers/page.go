package drivers

// PageSize returns how many objects a List requests from its store next, after the
// store has listed some of those that the caller wants. It is at most limit. It is
// limit if the caller wants all objects, or continues past those that it wanted.
func PageSize(want, listed, limit int) int {
	if left := want - listed; left > 0 {
		return min(left, limit)
	}
	return limit
}
