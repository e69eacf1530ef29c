package halcyon

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// claim is an address that a module claims.
type claim struct {
	what    string // for people
	pattern string // of net/http.ServeMux
}

// checkRoutes finds patterns that net/http would panic on, alone or beside each other, and names those who want them.
func checkRoutes(modules []*Module) error {
	var errs []error
	var claims []claim
	for _, m := range modules {
		for _, r := range m.routes {
			c := claim{fmt.Sprintf("route %q of module %q", r.pattern, m.name), r.pattern}
			path := r.pattern[strings.IndexByte(r.pattern, ' ')+1:]
			if path == HTTPPrefix || strings.HasPrefix(path, HTTPPrefix+"/") {
				errs = append(errs, fmt.Errorf("%s: addresses below %s/ are for Module.HTTP", c.what, HTTPPrefix))
				continue
			}
			claims = append(claims, c)
		}
		for _, r := range m.httpRoutes {
			c := claim{fmt.Sprintf("HTTP route %q of module %q", r.method+" "+r.path, m.name), r.pattern()}
			if err := r.check(); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", c.what, err))
				continue
			}
			claims = append(claims, c)
		}
	}
	return errors.Join(append(errs, checkClaims(claims))...)
}

// checkClaims finds claims that can't be met, alone or beside an earlier one.
func checkClaims(claims []claim) error {
	var errs []error
	var met []claim
	mux := http.NewServeMux()
	for _, c := range claims {
		err := meet(mux, c)
		if err == nil {
			met = append(met, c)
			continue
		}
		for _, other := range met { // the mux knows patterns, not who wants them
			two := http.NewServeMux()
			if meet(two, other) == nil && meet(two, c) != nil {
				err = fmt.Errorf("%s stands where the %s does", c.what, other.what)
				break
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// meet adds a pattern to a mux.
func meet(mux *http.ServeMux, c claim) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %v", c.what, p)
		}
	}()
	mux.Handle(c.pattern, http.NotFoundHandler())
	return nil
}
