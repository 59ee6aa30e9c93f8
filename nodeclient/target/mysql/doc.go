// Package mysql is the target driver for MariaDB.
package mysql
