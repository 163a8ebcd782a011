;; SPDX-License-Identifier: LGPL-2.1-or-later
;; Run by run.scm with a socket that isn't there: the egg loads, says so, and every call fails.
(import (chicken base) (chicken condition) (chicken file posix) shmbroker)

(define connection-refused 111) ; ECONNREFUSED: (chicken errno) doesn't name it

(define (refused? thunk)
  (condition-case (begin (thunk) #f)
    (condition (exn i/o file shmbroker)
	       (and (= (get-condition-property condition 'shmbroker 'errno) connection-refused)
		    (string? (get-condition-property condition 'shmbroker 'reason))))))

(exit (if (and (eq? posix-shm? #f)
	       (refused? (lambda () (shm-open "/test-a" (list open/rdwr open/creat))))
	       (refused? (lambda () (shm-unlink "/test-a"))))
	  0
	  1))
