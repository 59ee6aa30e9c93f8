// Package secret keeps passwords and tokens that stand in URLs out of whatever people read: errors, logs, alerts,
// answers and the arguments of processes. Whoever shows a URL shows what URL makes of it, and whoever hands on an
// error of a library that was given one hands on what Hide makes of it.
package secret

import (
	"encoding/base64"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// password finds USER:PASSWORD@ in a URL, also in one that stands behind another scheme or in the query of another, and
// in one that was taken for a path and lost a slash.
var password = regexp.MustCompile(`:(/+)([^/?#@\s:]*):[^/?#@\s]*@`)

// local finds the targets that are no URLs: in a path or a command an @ says nothing.
var local = regexp.MustCompile(`^(sqlite|kv|file|exec):`)

// masked stands for a password or a token.
const masked = "xxxxx"

// URL is text, one URL or several of NATS servers with commas, as people may read it: without passwords, without the
// user of a NATS URL that has no password (it is a token), without a path that names no database (it may be one) and
// without queries. Of a URL that lacks its scheme nothing is shown that stands before the host. What else is no URL
// is returned with the passwords of those in it masked.
func URL(text string) string {
	if inner, is := strings.CutPrefix(text, "webhook:"); is {
		return "webhook:" + URL(inner)
	}
	scheme, _, found := strings.Cut(text, "://")
	if !found || strings.ContainsAny(scheme, ":/?#@ ") { // sqlite:PATH, exec:COMMAND, or a slip
		// USER:PASSWORD@HOST without its scheme
		if at := strings.LastIndexByte(text, '@'); at >= 0 && !local.MatchString(text) {
			return masked + text[at:]
		}
		return mask(text)
	}
	if !nats(scheme) {
		return one(text)
	}
	var all []string
	for each := range strings.SplitSeq(text, ",") {
		all = append(all, one(strings.TrimSpace(each)))
	}
	return strings.Join(all, ",")
}

func nats(scheme string) bool { return slices.Contains([]string{"nats", "tls", "ws", "wss"}, scheme) }

// databases are the schemes of URLs whose path is the name of a database; of every other it may be a token.
var databases = []string{"postgres", "postgresql", "mysql", "mariadb", "redis", "rediss"}

func one(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Opaque != "" {
		scheme, _, found := strings.Cut(text, "://")
		if !found || strings.ContainsAny(scheme, "/?#@: ") {
			return masked
		}
		return scheme + "://" + masked
	}
	shown := u.Scheme + "://"
	if u.User != nil {
		user := u.User.Username()
		if _, set := u.User.Password(); set {
			shown += url.User(user).String() + ":" + masked + "@"
		} else if nats(u.Scheme) {
			shown += masked + "@"
		} else {
			shown += url.User(user).String() + "@"
		}
	}
	shown += u.Host
	switch {
	case u.Path == "" || u.Path == "/" || slices.Contains(databases, u.Scheme):
		shown += u.EscapedPath()
	default:
		shown += "/..."
	}
	if u.RawQuery != "" {
		shown += "?..."
	}
	return shown
}

// Has reports whether text is or holds a URL with something that URL would not show.
func Has(text string) bool {
	inner := strings.TrimPrefix(text, "webhook:")
	return HasPassword(text) || URL(inner) != inner
}

// HasPassword reports whether text is or holds a URL with a password.
func HasPassword(text string) bool {
	plain, err := url.PathUnescape(text)
	return password.MatchString(text) || err == nil && password.MatchString(plain)
}

// mask replaces the passwords of all URLs in a text.
func mask(text string) string {
	return password.ReplaceAllString(text, ":${1}${2}:"+masked+"@")
}

// Text is text of others, without the passwords of the URLs in it.
func Text(text string) string { return mask(text) }

// Hide returns err with a text from which the secrets of these URLs are taken, in any of the ways in which libraries
// write them, and the passwords of other URLs. It wraps err, and is nil for nil.
func Hide(err error, urls ...string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, list := range urls {
		list = strings.TrimPrefix(list, "webhook:")
		text = replace(text, list, URL(list))
		parts := []string{list}
		if scheme, _, _ := strings.Cut(list, "://"); nats(scheme) {
			parts = strings.Split(list, ",")
		}
		for _, part := range parts {
			text = without(text, strings.TrimSpace(part))
		}
	}
	if text = mask(text); text == err.Error() {
		return err
	}
	return &hidden{err, text}
}

// without takes one URL's secrets from a text.
func without(text, part string) string {
	text = replace(text, part, URL(part))
	u, err := url.Parse(part)
	if err != nil || !strings.Contains(part, "://") { // the path of sqlite:PATH is no secret
		return text
	}
	fragment := u.Fragment
	u.Fragment, u.RawFragment = "", ""
	for _, whole := range []string{u.String(), u.Redacted()} {
		text = replace(text, whole, URL(part))
	}
	secrets := []string{}
	if u.User != nil {
		user := u.User.Username()
		if pass, set := u.User.Password(); set {
			_, escaped, _ := strings.Cut(u.User.String(), ":")
			for _, s := range []string{user + ":" + pass, pass} {
				b := []byte(s)
				secrets = append(secrets, base64.StdEncoding.EncodeToString(b), base64.URLEncoding.EncodeToString(b),
					base64.RawStdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b))
			}
			secrets = append(secrets, escaped, url.QueryEscape(pass), url.PathEscape(pass), pass)
		} else if nats(u.Scheme) {
			secrets = append(secrets, user, url.QueryEscape(user), url.PathEscape(user))
		}
	}
	for _, s := range secrets {
		text = replace(text, s, masked)
	}
	if !slices.Contains(databases, u.Scheme) {
		for _, path := range []string{u.RequestURI(), u.EscapedPath(), u.Path} {
			if path != "/" {
				text = replace(text, path, "/...")
			}
		}
	}
	if values, err := url.ParseQuery(fragment); err == nil { // of a webhook
		for _, more := range values {
			for _, inner := range more {
				if strings.Contains(inner, "://") {
					text = without(text, inner)
				}
			}
		}
	}
	return text
}

// replace replaces a secret that is long enough to be one, as it is and as it stands in quotes.
func replace(text, old, shown string) string {
	if len(old) < 3 {
		return text
	}
	quoted := strconv.Quote(old)
	return strings.ReplaceAll(strings.ReplaceAll(text, old, shown), quoted[1:len(quoted)-1], shown)
}

// hidden is an error with a text of its own.
type hidden struct {
	error
	text string
}

func (h *hidden) Error() string { return h.text }
func (h *hidden) Unwrap() error { return h.error }
