;; SPDX-License-Identifier: LGPL-2.1-or-later
;; The egg: POSIX shared memory objects by way of the broker, with the names, arguments and results
;; of the egg posix-shm. All it does is to make Scheme's values C's, and errnos conditions.
(module shmbroker (posix-shm? shm-open shm-unlink)

(import scheme
	(chicken base)
	(only (chicken bitwise) bitwise-and bitwise-ior)
	(only (chicken condition) abort make-composite-condition make-property-condition)
	(chicken foreign)
	(only (chicken file posix) open/rdonly open/rdwr perm/irwxu perm/irgrp perm/iroth))

#>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <shmbroker.h>

/*
 * Puts a call's result, or its negative errno, into *ret; returns why it failed, to be freed, or
 * NULL. In one go: a thread of Scheme's that ran in between could make a call with a reason of
 * its own.
 */
static char *outcome(int result, int *ret)
{
	*ret = result < 0 ? -errno : result;
	return result < 0 ? strdup(shmb_reason(NULL)) : NULL;
}
<#

(define c-open
  (foreign-lambda* c-string*
      ((nonnull-scheme-pointer name) (int oflag) (int mode) ((c-pointer int) ret))
    "C_return(outcome(shmb_shm_open(name, oflag, (mode_t)mode), ret));"))

(define c-unlink
  (foreign-lambda* c-string* ((nonnull-scheme-pointer name) ((c-pointer int) ret))
    "C_return(outcome(shmb_shm_unlink(name), ret));"))

(define strerror (foreign-lambda c-string "strerror" int))

(define access-bits (foreign-value "O_ACCMODE" int))
(define largest-oflag (foreign-value "INT_MAX" int))
(define errno/inval (foreign-value "EINVAL" int))
(define default-mode (bitwise-ior perm/irwxu perm/irgrp perm/iroth))
(define mode-end #o200000) ; all that fits stat's st_mode

;; who: the procedure that the user called, for all messages.
(define (fail who message errno reason arguments)
  (abort
   (make-composite-condition
    (make-property-condition
     'exn
     'location who
     'message (string-append message " - " (strerror errno)
			     (if (string=? reason "") "" (string-append " (" reason ")")))
     'arguments arguments
     'errno errno
     'call-chain (get-call-chain 2))
    (make-property-condition 'i/o)
    (make-property-condition 'file)
    (make-property-condition 'shmbroker 'errno errno 'reason reason))))

;; The result of c-open or c-unlink, to which place is passed on.
(define (ask who message arguments call)
  (let-location ((result int))
    (let ((reason (call (location result))))
      (if (negative? result)
	  (fail who message (- result) (or reason "") arguments)
	  result))))

;; As the posix unit checks and converts its paths: a NUL is an error of type.
(define (c-name who path)
  (##sys#check-string path who)
  (##sys#make-c-string path who))

;; open/rdonly is 0, so whether it was given can be told from the list alone.
(define (one-access? oflags oflag)
  (= (bitwise-and oflag access-bits)
     (if (memv open/rdonly oflags) open/rdonly open/rdwr)))

(define (open-object path oflags mode)
  (define message "cannot open shared memory object")
  (define arguments (list path oflags mode))
  (let ((name (c-name 'shm-open path)))
    (##sys#check-list oflags 'shm-open)
    (for-each (lambda (mask) (##sys#check-fixnum mask 'shm-open)) oflags)
    (##sys#check-fixnum mode 'shm-open)
    (##sys#check-range mode 0 mode-end 'shm-open)
    (let ((oflag (apply bitwise-ior oflags)))
      (cond
       ((not (one-access? oflags oflag))
	(fail 'shm-open message errno/inval "neither or both of open/rdonly and open/rdwr" arguments))
       ((not (<= 0 oflag largest-oflag))
	(fail 'shm-open message errno/inval "a mask that can't be" arguments))
       (else
	(ask 'shm-open message arguments (cut c-open name oflag mode <>)))))))

;; Whether a broker answered when the egg was loaded.
(define posix-shm? ((foreign-lambda bool "shmb_supported")))

;; (shm-open PATH OFLAGS [MODE]) or (shm-open PATH OFLAGS mode: MODE): a descriptor.
(define shm-open
  (case-lambda
   ((path oflags) (open-object path oflags default-mode))
   ((path oflags mode) (open-object path oflags mode))
   ((path oflags keyword mode)
    (unless (eq? keyword mode:)
      (##sys#signal-hook #:type-error 'shm-open "bad argument - not the keyword mode:" keyword))
    (open-object path oflags mode))))

;; 0
(define (shm-unlink path)
  (let ((name (c-name 'shm-unlink path)))
    (ask 'shm-unlink "cannot unlink shared memory object" (list path) (cut c-unlink name <>))))
)
