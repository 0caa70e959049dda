# One interface target carries the flags of the whole project; every ds4 target links it.
add_library(ds4_flags INTERFACE)
target_include_directories(ds4_flags INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
target_compile_options(ds4_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wconversion;-Wno-sign-conversion>")
# g++ 12 sees overlapping copies in "x" + std::string(...) that are not there (GCC bug 105651).
# The thread sanitizer does not see fences; Boost.Asio has some beside its locks.
target_compile_options(ds4_flags INTERFACE
  "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict;-Wno-tsan>")
# A row's bits must not depend on which loop the compiler chose to contract (design.md, "Rules that keep
# results honest"): fused multiply-adds are written out where they are wanted.
target_compile_options(ds4_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)
if(DS4_WERROR)
  target_compile_options(ds4_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(DS4_SANITIZE)
  target_compile_options(ds4_flags INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${DS4_SANITIZE};-fno-omit-frame-pointer;-fno-sanitize-recover=all>")
  # g++ 12 loses track of initialisation in code it has instrumented (std::regex, GCC bug 105562).
  target_compile_options(ds4_flags INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  # Every SIMD target is compared with the reference in the plain build. Sanitizers need one look at the logic, and
  # two targets (the baseline cannot be left out) instead of five keep these builds short.
  target_compile_definitions(ds4_flags INTERFACE DS4_FEWER_SIMD_TARGETS)
  target_link_options(ds4_flags INTERFACE -fsanitize=${DS4_SANITIZE})
endif()

# Linking is a tenth of a whole build with the default linker, and next to nothing with this one.
find_program(DS4_LLD ld.lld)
if(DS4_LLD)
  target_link_options(ds4_flags INTERFACE -fuse-ld=lld)
endif()

# ds4_library(NAME SOURCES... [DEPS targets...]): one static library per room of src/.
function(ds4_library name)
  cmake_parse_arguments(arg "" "" "DEPS" ${ARGN})
  add_library(${name} STATIC ${arg_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PUBLIC ds4_flags ${arg_DEPS})
endfunction()

# ds4_test(NAME SOURCES... [DEPS targets...] [LABELS labels...]): one GoogleTest program per room of tests/.
function(ds4_test name)
  cmake_parse_arguments(arg "" "" "DEPS;LABELS" ${ARGN})
  add_executable(${name} ${arg_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE ds4_flags ${arg_DEPS} GTest::gmock GTest::gtest_main)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${name} PRIVATE DS4_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data")
  # Tests spend their time in the libraries; unoptimised they compile twice as fast, which is most of a suite's time.
  target_compile_options(${name} PRIVATE -O0)
  set(properties TIMEOUT 600)
  if(arg_LABELS)
    list(APPEND properties LABELS "${arg_LABELS}")
  endif()
  if(DS4_SANITIZE)
    # A process per test costs sanitizers more than the tests do.
    add_test(NAME ${name} COMMAND ${name} --gtest_brief=1)
    set_tests_properties(${name} PROPERTIES ${properties})
  else()
    gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES ${properties})
  endif()
endfunction()
