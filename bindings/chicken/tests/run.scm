;; SPDX-License-Identifier: LGPL-2.1-or-later
;; The egg against a broker with a configuration for it, which tests/bindings-chicken starts.
(import (chicken base)
	(chicken bitwise)
	(chicken condition)
	(chicken errno)
	(chicken file posix)
	(chicken format)
	(chicken process)
	(chicken process-context)
	(rename (chicken random) (pseudo-random-integer random))
	shmbroker)

(define failures 0)

(define-syntax test ; says which behaviour is missing, and goes on
  (syntax-rules ()
    ((_ behaviour expected expression ...)
     (let ((seen (handle-exceptions condition (condition->list condition) expression ...)))
       (unless (equal? seen expected)
	 (set! failures (+ failures 1))
	 (print "FAILED: " behaviour)
	 (print "  expected " expected)
	 (print "  seen     " seen))))))

(define-syntax condition-of ; #f: there was none
  (syntax-rules ()
    ((_ expression ...)
     (handle-exceptions condition condition expression ... #f))))

(define (kinds condition)
  (map car (condition->list condition)))

(define errno (condition-property-accessor 'shmbroker 'errno 'none))
(define reason (condition-property-accessor 'shmbroker 'reason 'none))
(define message (condition-property-accessor 'exn 'message))
(define location (condition-property-accessor 'exn 'location))
(define arguments (condition-property-accessor 'exn 'arguments))

(define create (list open/rdwr open/creat))
(define create-new (list open/rdwr open/creat open/excl))

(define (make path . rest) ; an object, closed again; its mode
  (let* ((fd (apply shm-open path create-new rest))
	 (mode (file-permissions fd)))
    (file-close fd)
    mode))

(define (text-of fd size)
  (set-file-position! fd 0)
  (let ((result (file-read fd size)))
    (substring (car result) 0 (cadr result))))

(unless (get-environment-variable "SHMBROKER_SOCKET")
  (print "left out: these tests want the broker that tests/bindings-chicken starts")
  (exit 0))

(test "a broker answers" #t posix-shm?)

(test "the example of the egg posix-shm" '("Hello, world!" 13 0)
      (let* ((str "Hello, world!")
	     (path (sprintf "/shmtest~A" (random 100)))
	     (fd (shm-open path (list open/rdwr open/creat))))
	(file-truncate fd (string-length str))
	(file-write fd str)
	(file-close fd)
	(let* ((fd (shm-open path (list open/rdonly open/excl)))
	       (result (file-read fd (string-length str))))
	  (file-close fd)
	  (append result (list (shm-unlink path))))))

;; Opening

(define first-fd (shm-open "/test-a" create))
(test "a descriptor is a number" #t (and (fixnum? first-fd) (> first-fd 2)))
(test "it is closed on exec" 1 (file-control first-fd fcntl/getfd))
(test "a new object is empty" 0 (file-size first-fd))
(file-write first-fd "content")

(test "an object is opened by its name, with any number of slashes" "content"
      (let* ((fd (shm-open "//test-a" (list open/rdonly)))
	     (text (text-of fd 100)))
	(file-close fd)
	text))
(test "open/rdonly doesn't write" '(exn i/o file)
      (let* ((fd (shm-open "/test-a" (list open/rdonly)))
	     (condition (condition-of (file-write fd "x"))))
	(file-close fd)
	(kinds condition)))
(test "open/creat opens what is there" "content"
      (let* ((fd (shm-open "/test-a" create))
	     (text (text-of fd 100)))
	(file-close fd)
	text))
(test "open/creat and open/excl: it exists" errno/exist
      (errno (condition-of (shm-open "/test-a" create-new))))
(test "open/excl alone says nothing" #t
      (let ((fd (shm-open "/test-a" (list open/rdwr open/excl))))
	(file-close fd)
	(fixnum? fd)))
(test "masks may come in one number" #t
      (let ((fd (shm-open "/test-a" (list (bitwise-ior open/rdwr open/creat)))))
	(file-close fd)
	(fixnum? fd)))
(test "open/append writes at the end" "contented"
      (let ((fd (shm-open "/test-a" (list open/rdwr open/append))))
	(set-file-position! fd 0)
	(file-write fd "ed")
	(let ((text (text-of fd 100)))
	  (file-close fd)
	  text)))
(test "masks that say nothing of memory change nothing" #t
      (let ((fd (shm-open "/test-a" (list open/rdwr open/sync open/nonblock open/noctty))))
	(file-close fd)
	(fixnum? fd)))
(test "open/trunc empties it" 0
      (let ((fd (shm-open "/test-a" (list open/rdwr open/trunc))))
	(file-close fd)
	(file-size first-fd)))

;; Modes

(file-creation-mode #o022)
(test "a new object has the mode that posix-shm's has" #o744 (make "/test-m1"))
(test "MODE may be given" #o600 (make "/test-m2" (bitwise-ior perm/irusr perm/iwusr)))
(test "MODE may be given by keyword" #o640 (make "/test-m3" mode: #o640))
(test "the umask is taken off" #o644 (make "/test-m4" mode: #o666))
(test "of MODE nine bits count" #o755 (make "/test-m5" #o107777))
(file-creation-mode #o077)
(test "the umask of the moment" #o600 (make "/test-m6" #o666))
(file-creation-mode #o022)
(for-each shm-unlink '("/test-m1" "/test-m2" "/test-m3" "/test-m4" "/test-m5" "/test-m6"))

;; Names

(define long-name (make-string 255 #\n))
(test "a name of all the bytes that can be" #o644
      (make (string-append "/test-" (substring long-name 5)) #o644))
(test "it goes by the same name" 0 (shm-unlink (string-append "/test-" (substring long-name 5))))
(test "one byte more" errno/nametoolong
      (errno (condition-of (shm-open (string-append "/test-" (substring long-name 4)) create))))
(test "a name in UTF-8" '(#o644 0) (list (make "/test-größe-λ" #o644) (shm-unlink "/test-größe-λ")))
(test "a NUL is an error of type" '((exn type) shm-open)
      (let ((condition (condition-of (shm-open "/test-a\x00;b" create))))
	(list (kinds condition) (location condition))))
(test "of shm-unlink's, too" '((exn type) shm-unlink)
      (let ((condition (condition-of (shm-unlink "/test-a\x00;b"))))
	(list (kinds condition) (location condition))))
(test "no slash within" errno/inval (errno (condition-of (shm-open "/test-a/b" create))))

;; Unlinking

(test "shm-unlink says 0, and the descriptor stays good" '(0 "more")
      (let ((status (shm-unlink "/test-a")))
	(set-file-position! first-fd 0)
	(file-write first-fd "more")
	(list status (text-of first-fd 4))))
(file-close first-fd)
(test "then there is none to open" errno/noent
      (errno (condition-of (shm-open "/test-a" (list open/rdwr)))))
(test "nor to unlink" errno/noent (errno (condition-of (shm-unlink "/test-a"))))

;; Conditions

(let ((condition (condition-of (shm-open "/closed-a" create mode: #o600))))
  (test "what is refused is a file error of the egg's" '(exn i/o file shmbroker) (kinds condition))
  (test "with the errno" errno/acces (errno condition))
  (test "also where the posix unit may put it" errno/acces
	(get-condition-property condition 'exn 'errno #f))
  (test "with the broker's reason" "rule \"closed to all\" does not allow read,write" (reason condition))
  (test "in a message for people"
	"cannot open shared memory object - Permission denied (rule \"closed to all\" does not allow read,write)"
	(message condition))
  (test "with its place and arguments" (list 'shm-open (list "/closed-a" create #o600))
	(list (location condition) (arguments condition))))
(let ((condition (condition-of (shm-unlink "/closed-a"))))
  (test "shm-unlink's alike"
	(list '(exn i/o file shmbroker) errno/acces "rule \"closed to all\" does not allow unlink"
	      'shm-unlink '("/closed-a"))
	(list (kinds condition) (errno condition) (reason condition) (location condition)
	      (arguments condition))))
(test "a name of no rule" "no rule matches this name and who asks"
      (reason (condition-of (shm-open "/elsewhere" create))))
(test "condition-case knows the kind" 'ours
      (condition-case (shm-open "/test-none" (list open/rdonly))
	((exn i/o file shmbroker) 'ours)))
(test "a failure leaves no reason behind" #t
      (let* ((fd (shm-open "/test-b" create))
	     (condition (condition-of (shm-open "/test-none" (list open/rdonly)))))
	(file-close fd)
	(shm-unlink "/test-b")
	(not (equal? (reason condition) "no rule matches this name and who asks"))))

(for-each
 (lambda (oflags)
   (test (list "one of open/rdonly and open/rdwr" oflags) (list '(exn i/o file shmbroker) errno/inval)
	 (let ((condition (condition-of (shm-open "/test-flags" oflags))))
	   (list (kinds condition) (errno condition)))))
 (list (list)
       (list open/creat)
       (list open/rdonly open/rdwr)
       (list open/rdonly open/rdwr open/creat)
       (list open/wronly)
       (list open/wronly open/creat)
       (list open/wronly open/rdwr)
       (list open/rdonly open/wronly)
       (list -1)
       (list open/rdwr (expt 2 40)) ; and one that no int holds
       (list open/rdwr (expt 2 30)))) ; and one that is no flag
(test "nothing was made by them" errno/noent (errno (condition-of (shm-unlink "/test-flags"))))

(for-each
 (lambda (call)
   (test (list "wrong types" call) '((exn type) shm-open)
	 (let ((condition (condition-of (apply shm-open call))))
	   (list (kinds condition) (location condition)))))
 (list (list 'test-a create)
       (list #f create)
       (list "/test-a" open/rdwr)
       (list "/test-a" (list 'open/rdwr))
       (list "/test-a" (list 2.0))
       (list "/test-a" create "0600")
       (list "/test-a" create #f)
       (list "/test-a" create mode: 'all)
       (list "/test-a" create mode:)
       (list "/test-a" create access: #o600)
       (list "/test-a" create #o600 #o600)))
(test "wrong types of shm-unlink" '((exn type) shm-unlink)
      (let ((condition (condition-of (shm-unlink 1))))
	(list (kinds condition) (location condition))))
(test "a mode that none is" '((exn bounds) (exn bounds))
      (map (lambda (mode) (kinds (condition-of (shm-open "/test-a" create mode))))
	   (list -1 #o200000)))
(test "too many arguments" #t
      (condition? (condition-of (shm-open "/test-a" create #o600 mode: #o600))))

;; Processes: each its own connection, one memory

(test "two processes share an object" '(0 "pong")
      (let ((fd (shm-open "/test-shared" create-new)))
	(file-write fd "ping")
	(let ((child
	       (process-fork
		(lambda ()
		  (let ((own (shm-open "/test-shared" (list open/rdwr))))
		    (cond
		     ((string=? (text-of own 4) "ping")
		      (set-file-position! own 0)
		      (file-write own "pong")
		      (shm-unlink "/test-shared")
		      (exit 0))
		     (else (exit 1))))))))
	  (receive (pid normal status) (process-wait child)
	    (let ((text (text-of fd 4)))
	      (file-close fd)
	      (list status text))))))
(test "what a child unlinks is gone" errno/noent
      (errno (condition-of (shm-open "/test-shared" (list open/rdwr)))))

;; The egg looks for its broker when it is loaded.
(test "without a broker" 0
      (receive (pid normal status)
	  (process-wait
	   (process-fork
	    (lambda ()
	      (set-environment-variable! "SHMBROKER_SOCKET" "/nonexistent/socket")
	      (process-execute (executable-pathname) '("-s" "no-broker.scm")))))
	status))

(print (if (zero? failures)
	   "all of the egg's tests passed"
	   (sprintf "~A of the egg's tests failed" failures)))
(exit (if (zero? failures) 0 1))
